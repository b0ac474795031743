"""The command line, on the blocking half of the SDK.

main.py       the commands and options, errors in one line, exit codes
options.py    what the words of a command line may be
run.py        run, exec
code.py       code
sandboxes.py  create, ls, rm
cp.py         cp
server.py     serve, stop, logs
doctor.py     doctor
draw.py       tables and progress bars; the only module that imports rich, when it draws
"""
