"""An in-process kubelet that real clients cannot tell from the real one."""
