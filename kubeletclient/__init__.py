"""Run commands in containers straight through a kubelet; the same names, awaited, are in `kubeletclient.aio`."""
