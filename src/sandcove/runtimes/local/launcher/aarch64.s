// The launcher, see programs.py, which has what this assembles to; its exit status is the number of the step that failed.
.globl _start
.macro call nr
    mov x8, #\nr
    svc #0
    add x19, x19, #1
    cbnz w0, fail
.endm
_start:
    mov x19, #0
    mov x0, #0x20000
    call 97
    mov x0, #0
    adr x1, root
    mov x2, #0
    mov x3, #0x4000
    movk x3, #0x4, lsl #16
    mov x4, #0
    call 40
    adr x0, root
    adr x1, tmp
    mov x3, #0x1000
    call 40
    adr x0, usr
    adr x1, tusr
    mov x3, #0x5000
    call 40
    adr x0, proc
    adr x1, tproc
    call 40
    adr x0, dev
    adr x1, tdev
    call 40
    adr x0, dot
    adr x1, ttmp
    call 40
    adr x0, tmp
    call 49
    adr x0, dot
    adr x1, dot
    call 41
    adr x0, dot
    mov x1, #2
    call 39
    mov x0, #0
    sub x1, sp, #16
    mov x2, #4
    mov x8, #63
    svc #0
    add x19, x19, #1
    cmp w0, #4
    b.ne fail
    mov x0, #28
    mov x1, #4
    call 167
    mov w0, #-1
    ldr w1, [sp, #-16]
    mov w2, #-1
    call 147
    mov x0, #4
    mov x1, #1
    call 167
    mov x0, #0x10000000
    call 97
    mov x0, #1
    adr x1, root
    mov x2, #1
    mov x8, #64
    svc #0
    mov x0, #0
    sub x1, sp, #16
    mov x8, #63
    svc #0
    add x19, x19, #1
    cmp w0, #1
    b.ne fail
    mov x0, #0
    mov x1, #0
    call 159
    mov x2, #0
    call 149
    call 147
    ldr x0, [sp, #16]
    add x1, sp, #24
    ldr x2, [sp]
    add x2, sp, x2, lsl #3
    add x2, x2, #16
    mov x8, #221
    svc #0
    add x19, x19, #1
fail:
    mov x0, x19
    mov x8, #93
    svc #0
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
