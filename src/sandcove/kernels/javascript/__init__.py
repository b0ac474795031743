"""The kernel for JavaScript and TypeScript."""
