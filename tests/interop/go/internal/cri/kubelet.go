package cri

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/proxy"
	translator "k8s.io/apiserver/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"kubewire.invalid/interop/internal/kubelet"
)

// TerminalLabel marks a container that was made with a terminal: a kubelet knows it from the pod's specification.
const TerminalLabel = "kubewire.invalid/tty"

// Kubelet is the streaming endpoints of a kubelet, and its list of pods, in front of a runtime: it asks the runtime for
// a one-time URL and passes the connection through with Kubernetes' own proxy (k/k: pkg/kubelet/server/server.go).
type Kubelet struct {
	Auth    kubelet.Authenticator
	Runtime runtimeapi.RuntimeServiceClient
	// Translate is ExtendWebSocketsToKubelet, on since 1.36: WebSocket v5 is translated here, and not passed through.
	Translate bool
}

// NewServer returns an HTTP server; the caller chooses the listener and the certificate.
func (k *Kubelet) NewServer() *http.Server {
	mux := http.NewServeMux()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, uid := range []string{"", "{uid}/"} {
			mux.HandleFunc(method+" /exec/{namespace}/{pod}/"+uid+"{container}", k.exec)
			mux.HandleFunc(method+" /attach/{namespace}/{pod}/"+uid+"{container}", k.attach)
		}
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", k.portForward)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", k.portForward)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /pods", k.pods)
	return &http.Server{
		Handler:           k.Auth.Wrap(mux),
		ReadHeaderTimeout: 30 * time.Second,
		TLSConfig:         &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12},
	}
}

func (k *Kubelet) exec(w http.ResponseWriter, r *http.Request) {
	missing := fmt.Sprintf("container not found (%q)", r.PathValue("container"))
	container, options := k.check(w, r, missing)
	if container == nil {
		return
	}
	answer, err := k.Runtime.Exec(r.Context(), &runtimeapi.ExecRequest{
		ContainerId: container.Id, Cmd: r.URL.Query()["command"], Tty: options.TTY,
		Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr,
	})
	k.pass(w, r, answer.GetUrl(), err, options)
}

func (k *Kubelet) attach(w http.ResponseWriter, r *http.Request) {
	missing := fmt.Sprintf("container %s not found in pod %s_%s",
		r.PathValue("container"), r.PathValue("pod"), r.PathValue("namespace"))
	container, options := k.check(w, r, missing)
	if container == nil {
		return
	}
	tty := container.Labels[TerminalLabel] == "1"
	answer, err := k.Runtime.Attach(r.Context(), &runtimeapi.AttachRequest{
		ContainerId: container.Id, Tty: tty, Stdin: options.Stdin, Stdout: options.Stdout,
		Stderr: options.Stderr && !tty,
	})
	k.pass(w, r, answer.GetUrl(), err, options)
}

func (k *Kubelet) portForward(w http.ResponseWriter, r *http.Request) {
	pod, err := k.pod(r.Context(), r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid"))
	switch {
	case err != nil:
		refuse(w, err)
		return
	case pod == nil:
		answer(w, http.StatusNotFound, "pod does not exist")
		return
	}
	var ports []int32
	for _, list := range r.URL.Query()["port"] {
		for _, text := range strings.Split(list, ",") {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				answer(w, http.StatusBadRequest, err.Error())
				return
			}
			ports = append(ports, int32(port))
		}
	}
	reply, err := k.Runtime.PortForward(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: pod.Id, Port: ports})
	k.pass(w, r, reply.GetUrl(), err, nil)
}

// check keeps the order of a kubelet's checks: options, pod, container, upgrade. It has answered when it returns nil.
func (k *Kubelet) check(w http.ResponseWriter, r *http.Request, missing string) (
	*runtimeapi.Container, *remotecommand.Options,
) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return nil, nil
	}
	pod, err := k.pod(r.Context(), r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid"))
	if err != nil || pod == nil {
		answer(w, http.StatusNotFound, "pod does not exist")
		return nil, nil
	}
	containers, err := k.containers(r.Context(), pod.Id)
	if err != nil {
		refuse(w, err)
		return nil, nil
	}
	for _, container := range containers {
		if container.Metadata.Name != r.PathValue("container") {
			continue
		}
		if !httpstream.IsUpgradeRequest(r) {
			answer(w, http.StatusInternalServerError, "Upgrade request required")
			return nil, nil
		}
		return container, options
	}
	answer(w, http.StatusInternalServerError, missing)
	return nil, nil
}

// pass connects the client to the runtime's streaming server.
func (k *Kubelet) pass(
	w http.ResponseWriter, r *http.Request, location string, err error, options *remotecommand.Options,
) {
	if err != nil {
		refuse(w, err)
		return
	}
	target, err := url.Parse(location)
	if err != nil {
		refuse(w, err)
		return
	}
	if k.Translate && options != nil && wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		translator.NewStreamTranslatorHandler(target, nil, 0, translator.Options{
			Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, Tty: options.TTY,
		}).ServeHTTP(w, r)
		return
	}
	proxy.NewUpgradeAwareHandler(target, nil, false, true, responder{}).ServeHTTP(w, r)
}

// pod is the one that runs, or nil.
func (k *Kubelet) pod(ctx context.Context, namespace, name, uid string) (*runtimeapi.PodSandbox, error) {
	pods, err := k.ready(ctx)
	for _, pod := range pods {
		m := pod.Metadata
		if m.Namespace == namespace && m.Name == name && (uid == "" || uid == m.Uid) {
			return pod, nil
		}
	}
	return nil, err
}

func (k *Kubelet) ready(ctx context.Context) ([]*runtimeapi.PodSandbox, error) {
	pods, err := k.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	}})
	return pods.GetItems(), err
}

func (k *Kubelet) containers(ctx context.Context, pod string) ([]*runtimeapi.Container, error) {
	list, err := k.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		PodSandboxId: pod,
		State:        &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	}})
	return list.GetContainers(), err
}

// pods lists what runs, with as much of each pod as the runtime knows.
func (k *Kubelet) pods(w http.ResponseWriter, r *http.Request) {
	pods, err := k.ready(r.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, pod := range pods {
		containers, err := k.containers(r.Context(), pod.Id)
		if err != nil {
			refuse(w, err)
			return
		}
		item := corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: pod.Metadata.Name, Namespace: pod.Metadata.Namespace, UID: types.UID(pod.Metadata.Uid),
				Labels: pod.Labels, Annotations: pod.Annotations,
			},
			Status: corev1.PodStatus{Phase: corev1.PodRunning},
		}
		for i := len(containers) - 1; i >= 0; i-- { // the runtime lists the newest first
			container := containers[i]
			item.Spec.Containers = append(item.Spec.Containers, corev1.Container{
				Name: container.Metadata.Name, Image: container.Image.GetImage(),
				TTY: container.Labels[TerminalLabel] == "1",
			})
			item.Status.ContainerStatuses = append(item.Status.ContainerStatuses, corev1.ContainerStatus{
				Name: container.Metadata.Name, ContainerID: "containerd://" + container.Id, Ready: true,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{
					StartedAt: metav1.NewTime(time.Unix(0, container.CreatedAt)),
				}},
			})
		}
		list.Items = append(list.Items, item)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list) // the client may have left
}

// responder answers what the proxy cannot, as a kubelet does.
type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	answer(w, http.StatusInternalServerError, err.Error())
}

// refuse answers a failure of the runtime.
func refuse(w http.ResponseWriter, err error) {
	answer(w, http.StatusInternalServerError, status.Convert(err).Message())
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) // the client may have left
}
