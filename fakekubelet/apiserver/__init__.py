"""The fake kube-apiserver. Its front door is ``fakekubelet.apiserver.server``, with kubelets behind it
``fakekubelet.cluster``."""
