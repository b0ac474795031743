"""The asyncio half of the SDK, written by hand."""
