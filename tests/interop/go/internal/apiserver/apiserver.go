// Package apiserver is exec and attach of a kube-apiserver: the paths, names and checks of its pod subresources in
// front of Kubernetes' own proxy (UpgradeAwareHandler) and its own translator of WebSocket v5 (StreamTranslatorHandler).
package apiserver

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/proxy"
	translator "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"kubewire.invalid/interop/internal/kubelet"
	"kubewire.invalid/interop/internal/usage"
)

// Config says what the apiserver knows and where its only node is.
type Config struct {
	Auth           kubelet.Authenticator
	Namespace, Pod string
	Containers     []string
	Verbs          []string        // granted to everybody: get, create
	Kubelet        *url.URL        // scheme and host
	Transport      *http.Transport // with the identity that the kubelet knows
	// PassWebSockets is an apiserver of 1.36 or newer whose node declares ExtendWebSocketsToKubelet: WebSocket v5 is
	// left to the kubelet. Otherwise it is translated here. Anything else is passed on either way.
	PassWebSockets bool
}

var pods = schema.GroupResource{Resource: "pods"}

// NewServer returns an HTTP server for config; the caller chooses the listener and the certificate.
func NewServer(config Config) *http.Server {
	config.Auth.Refuse = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, apierrors.NewUnauthorized("Unauthorized"))
	}
	mux := http.NewServeMux()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, kind := range []string{"exec", "attach"} {
			mux.HandleFunc(method+" /api/v1/namespaces/{namespace}/pods/{name}/"+kind,
				func(w http.ResponseWriter, r *http.Request) { config.connect(w, r, kind) })
		}
	}
	mux.HandleFunc("GET /debug/cpu", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(usage.Now()) // the client may have left
	})
	return &http.Server{
		Handler:           config.Auth.Wrap(mux),
		ReadHeaderTimeout: 30 * time.Second,
		TLSConfig:         &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12},
	}
}

// connect keeps the apiserver's order: authorization, pod, container, and then the proxy's own check.
func (c *Config) connect(w http.ResponseWriter, r *http.Request, kind string) {
	if err := c.authorize(r, kind); err != nil {
		refuse(w, err)
		return
	}
	query := r.URL.Query()
	location, err := c.location(kind, r.PathValue("namespace"), r.PathValue("name"), query)
	if err != nil {
		refuse(w, err)
		return
	}
	var handler http.Handler = proxy.NewUpgradeAwareHandler(location, c.Transport, false, true, responder{})
	if !c.PassWebSockets {
		streams := translator.Options{
			Stdin: truth(query, "stdin"), Stdout: truth(query, "stdout"), Stderr: truth(query, "stderr"),
			Tty: truth(query, "tty"),
		}
		handler = translator.NewTranslatingHandler(handler,
			translator.NewStreamTranslatorHandler(location, c.Transport, 0, streams),
			wsstream.IsWebSocketRequestWithStreamCloseProtocol)
	}
	handler.ServeHTTP(w, r)
}

// authorize knows a user by its verbs only. Since 1.35 a WebSocket, which is a GET, needs the verb of a POST as well.
func (c *Config) authorize(r *http.Request, kind string) error {
	verbs := []string{"create"}
	if r.Method == http.MethodGet {
		verbs = []string{"get"}
		if wsstream.IsWebSocketRequest(r) {
			verbs = append(verbs, "create")
		}
	}
	for _, verb := range verbs {
		if !slices.Contains(c.Verbs, verb) {
			return apierrors.NewForbidden(pods, r.PathValue("name"), fmt.Errorf(
				`User "kubewire" cannot %s resource "pods/%s" in API group "" in the namespace %q`,
				verb, kind, r.PathValue("namespace")))
		}
	}
	return nil
}

// location is where the kubelet serves the request (k/k: pkg/registry/core/pod/strategy.go streamLocation).
func (c *Config) location(kind, namespace, name string, query url.Values) (*url.URL, error) {
	if namespace != c.Namespace || name != c.Pod {
		return nil, apierrors.NewNotFound(pods, name)
	}
	container := query.Get("container")
	switch {
	case container == "" && len(c.Containers) == 1:
		container = c.Containers[0]
	case container == "":
		return nil, apierrors.NewBadRequest(fmt.Sprintf(
			"a container name must be specified for pod %s, choose one of: %s", name, c.Containers))
	case !slices.Contains(c.Containers, container):
		return nil, apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", container, name))
	}
	params := url.Values{}
	for from, to := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if truth(query, from) {
			params.Set(to, "1")
		}
	}
	if kind == "exec" {
		params["command"] = query["command"]
	}
	return &url.URL{
		Scheme: c.Kubelet.Scheme, Host: c.Kubelet.Host,
		Path:     fmt.Sprintf("/%s/%s/%s/%s", kind, namespace, name, container),
		RawQuery: params.Encode(),
	}, nil
}

// truth reads a flag as apimachinery's conversion does (pkg/runtime/converter.go): the first value counts, and
// everything that is not a plain no is a yes, the empty text included.
func truth(query url.Values, name string) bool {
	values := query[name]
	return len(values) > 0 && values[0] != "0" && !strings.EqualFold(values[0], "false")
}

// responder answers what the proxy cannot.
type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) { refuse(w, err) }

// refuse writes err as a Status.
func refuse(w http.ResponseWriter, err error) {
	status := metav1.Status{
		Status: metav1.StatusFailure, Message: err.Error(), Reason: metav1.StatusReasonUnknown,
		Code: http.StatusInternalServerError,
	}
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		status = known.Status()
	}
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status) // the client may have left
}
