"""The process inside a sandbox's room that does what the agent wire says.

    main.py       what a fork of the zygote runs: the room's root, without a file of the sandbox's
    app.py        the routes
    init.py       the agent's handle on the first process of a PID namespace for user code
    init_process.py   that process: spawns, signals, reaps
    init_messages.py  what the two say to each other
    process.py    a background process: log, standard input, signals, end
    processes.py  all of them by id
    process_calls.py  their routes
    log.py        what a process printed: a ring on disk that many follow
    log_stream.py that as events
    ports.py      what listens
    shell.py      one long-lived bash: runs commands, survives them, keeps their state
    bash.py       what the agent says to bash
    exported.py   what bash says of its variables
    scratch.py    the agent's own files where user code can write too
    commands.py   a command to its end, as one answer
    command_stream.py that as events
    inputs.py     standard input that is sent ahead of its command
    query.py      the parameters in a target
    transfer.py   files and folders as raw streams
    warmup.py     runs all that once before the first fork
    sessions.py   sessions by name, each with a shell
    output.py     what a command prints: bounded, with back-pressure
    text.py       that as text, no character split
    event_stream.py   answers that are events, with heartbeats
    stdin.py      the pipe to a program
    files.py      files and folders
    memory.py     what a sandbox remembers across sleep: environment and sessions

User code never runs beside the agent: it lives in PID namespaces nested in the room's, with no
capabilities, started by an `init` there.
"""
