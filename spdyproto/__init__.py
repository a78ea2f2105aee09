"""Sans-I/O engines for the streaming protocols of Kubernetes: SPDY/3.1 and the channels on top of it."""
