"""Previews: HTTP from outside to what listens in a sandbox.

previews.py  all of it together, for one server
front.py     takes every new connection of a listener; what is no preview goes on to the API
api.py       the API's side of that: a later request on its connection may be a preview
gate.py      which requests are for a preview, and the way to its service
address.py   labels, in hosts and in paths
head.py      heads, parsed strictly
body.py      bodies: by length, in chunks, to the end
rewrite.py   headers of both directions
incoming.py  where the bytes of both are read to
exchange.py  one request and its answer
upstream.py  the connection to the service
page.py      what is answered where no service answers
loopback.py  the address of a local server's previews
"""
