"""The process inside a sandbox's room that does what the agent wire says.

    main.py           what a fork of the zygote runs: the room's root, without a file of the sandbox's
    app.py            the routes, and `process_calls`, `git_calls` those of their nouns
    query.py          the parameters in a request's target
    warmup.py         runs all that once before the first fork
    init.py           the handle on the first process of a PID namespace for user code
    init_process.py   that process: spawns, signals, reaps
    init_messages.py  what the two say to each other
    sessions.py       sessions by name, each with a shell
    shell.py          one long-lived bash: runs commands, survives them, keeps their state
    shell_state.py    that state, in files that outlast it
    bash.py           what the agent says to bash
    exported.py       what bash says of its variables
    scratch.py        the agent's own files where user code can write too
    commands.py       a command to its end, as one answer
    command_stream.py that as events
    inputs.py         standard input that is sent ahead of its command
    output.py         what a command prints: bounded, with back-pressure
    text.py           that as text, no character split
    event_stream.py   an answer of events, with heartbeats
    processes.py      background processes by id
    process.py        one: log, standard input, signals, end
    log.py            what it printed: a ring on disk that many follow
    log_stream.py     that as events
    stdin.py          the pipe to a program
    ports.py          what listens
    dialler.py        connects the server to it
    files.py          files and folders
    file_events.py    a file as events
    transfer.py       files and folders as raw streams
    checkout.py       a clone: what is fetched, and how
    git.py            a git that runs for it, with the secret that it is told
    progress.py       what git says of its progress
    complaint.py      what it says when it fails, and what to do
    memory.py         what a sandbox remembers across sleep: environment and sessions

User code never runs beside the agent: it lives in PID namespaces nested in the room's, with no
capabilities, started by an `init` there.
"""
