"""The Kubernetes layer: subprotocols, upgrade, exit status, sessions. Import its modules; the package exports nothing."""
