"""The edge: what every endpoint shares of HTTP. Streams, addresses, the guard, and the table of failures."""
