"""The Kubernetes layer: subprotocols, upgrade, exit status, sessions. Import the modules: nothing is exported."""
