# The launcher, see programs.py, which has what this assembles to; its exit status is the number of the step that failed.
.intel_syntax noprefix
.globl _start
.macro call nr
    mov eax, \nr
    syscall
    inc ebx
    test eax, eax
    jnz fail
.endm
_start:
    xor ebx, ebx
    mov edi, 0x20000
    call 272
    xor edi, edi
    lea rsi, [rip + root]
    xor edx, edx
    mov r10d, 0x44000
    xor r8d, r8d
    call 165
    mov rdi, rsi
    lea rsi, [rip + tmp]
    mov r10d, 0x1000
    call 165
    lea rdi, [rip + usr]
    lea rsi, [rip + tusr]
    mov r10d, 0x5000
    call 165
    lea rdi, [rip + proc]
    lea rsi, [rip + tproc]
    call 165
    lea rdi, [rip + dev]
    lea rsi, [rip + tdev]
    call 165
    lea rdi, [rip + dot]
    lea rsi, [rip + ttmp]
    call 165
    lea rdi, [rip + tmp]
    call 80
    lea rdi, [rip + dot]
    mov rsi, rdi
    call 155
    mov esi, 2
    call 166
    xor edi, edi
    lea rsi, [rsp - 16]
    mov edx, 4
    xor eax, eax
    syscall
    inc ebx
    cmp eax, 4
    jne fail
    mov edi, 28
    mov esi, 4
    call 157
    mov edi, -1
    mov esi, [rsp - 16]
    mov edx, -1
    call 117
    mov edi, 4
    mov esi, 1
    call 157
    mov edi, 0x10000000
    call 272
    mov edi, 1
    lea rsi, [rip + root]
    mov edx, 1
    mov eax, 1
    syscall
    xor edi, edi
    lea rsi, [rsp - 16]
    xor eax, eax
    syscall
    inc ebx
    dec eax
    jnz fail
    xor edi, edi
    xor esi, esi
    call 116
    xor edx, edx
    call 119
    call 117
    mov rdi, [rsp + 16]
    lea rsi, [rsp + 24]
    mov rdx, [rsp]
    lea rdx, [rsp + rdx*8 + 16]
    mov eax, 59
    syscall
    inc ebx
fail:
    mov edi, ebx
    mov eax, 60
    syscall
root: .asciz "/"
dot: .asciz "."
tmp: .asciz "/tmp"
tusr: .ascii "/tmp"
usr: .asciz "/usr"
tproc: .ascii "/tmp"
proc: .asciz "/proc"
tdev: .ascii "/tmp"
dev: .asciz "/dev"
ttmp: .asciz "/tmp/tmp"
