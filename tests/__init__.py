"""Tests. `conftest.py` has what all can use; `both.py` drives the async SDK from sync test bodies;
`answers.py` makes one HTTP request; `tenants.py` runs a server on TCP;
`turns.py` lets some tests that run side by side have the machine for themselves.

unit/ property/   pure functions, no sandbox
contract/         what every runtime must do
server/ client/   real servers, real sandboxes
previews/         HTTP from outside to what listens in a sandbox, by raw sockets too
agent/            the agent by its wire, in real sandboxes
kernels/          kernels as plain programs, no sandbox; gallery.py: cells as the plotting libraries show them
security/         escapes that must fail
faults/           garbage on every wire, agents taken over, stopped processes, clocks that jump, full disks
stress/           many, often, killed in the middle
crash/            the server killed at each step of all that it does; tracer.py: ptrace(2)
e2e/              as a user would: the command line, the pages' examples, the demo, the published npm client, a browser
guards/           the project's own rules: layers, layout, settings, pages
"""
