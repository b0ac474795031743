"""Rooms on this machine.

    runtime.py    opens and ends rooms; one `Room` each
    plan.py       what a room consists of, decided purely; its bubblewrap arguments
    template.py   the read-only lower layer of every room's `/`
    build.py      has bubblewrap build one, and maps its users
    identities.py which of the host's user ids a sandbox has
    cgroups.py    the control groups of each; limits.py: what holds which limit
    disk.py       ends those with too many files; reserve.py: those that write when the disk is nearly full
    programs.py   the two tiny programs that start bubblewrap and keep a room open
    zygote.py     the warm process that forks agents into rooms, and the server's handle on it
    remains.py    what is left of rooms whose server has died
    cgroups.py    the control groups of rooms
    claims.py     whose control groups are whose
    dials.py      connections into a room, asked of its agent
    doctor.py     what this machine must have, checked one by one

A create overlaps two things: bubblewrap builds the room while the zygote forks a process that waits for it.
"""
