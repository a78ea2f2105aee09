"""Forwarded ports, for both flavours: everything here runs on an event loop, which the caller brings.

- ``plan``: which ports, over which transports, and the flow that sets a session up;
- ``locals``: the local end of one connection;
- ``session``: one session, with the connections in it;
- ``forwarder``: the sessions of one target, and what happens when one is lost;
- ``listeners``: local addresses;
- ``records``: statistics and events.
"""
