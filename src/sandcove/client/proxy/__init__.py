"""Previews at the hosts of an ASGI application.

middleware.py  which requests are for a preview; all others are the application's
request.py     the head that the server gets
ways.py        connections to the server
exchange.py    an HTTP request and its answer
socket.py      a WebSocket
answer.py      what the visitor is told
"""
