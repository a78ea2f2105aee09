"""Run commands in containers straight through a kubelet: blocking here, the same names awaited in `kubeletclient.aio`."""
