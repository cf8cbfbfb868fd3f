"""Servers that contenders lean on. They are started by the suite too, but nobody measures them."""
