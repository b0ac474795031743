"""Kernels: the processes that run a code context's cells. What they and the agent say to each other is in `messages`.

`python` and `charts` run in the kernel itself, which may be any Python from 3.10 on: they use the standard library,
and of ours only each other. `javascript` holds the runner for Bun and Node.
"""
