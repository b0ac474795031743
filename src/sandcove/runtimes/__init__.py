"""What makes the rooms that sandboxes live in.

base.py   the contract that every runtime keeps (tests/contract runs against each)
local/    rooms on this machine, by bubblewrap and a warm process that forks agents into them
"""
