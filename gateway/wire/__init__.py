"""The server: sockets, HTTP/1.1 and processes. Knows no registry: it carries an ASGI application and its bytes.

Hypercorn's Trio worker provides listeners, TLS, the application's lifespan and the stop; every byte that a stranger
sends is handled here. Way in: `supervisor.supervise` makes processes, `worker.serve` serves in one of them.
"""
