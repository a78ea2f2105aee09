package kubelet

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Authenticator accepts a request by its client certificate or its bearer token. With neither configured everybody
// is accepted. As in a kubelet, a certificate is asked for in the handshake and judged only here, so a bad one gets
// an HTTP answer rather than a TLS alert, and a bad one beside a good token does no harm. Tokens are read by
// Kubernetes' own code, from the header and from a WebSocket's subprotocols, and taken out of the request.
type Authenticator struct {
	ClientCAs *x509.CertPool
	Token     string
	// Refuse answers a request without a good credential; nil: 401 in a kubelet's words.
	Refuse http.HandlerFunc
}

// Load reads both kinds of credentials from files; an empty name is none.
func (a *Authenticator) Load(clientCA, tokenFile string) error {
	if clientCA != "" {
		pem, err := os.ReadFile(clientCA)
		if err != nil {
			return fmt.Errorf("-client-ca: %w", err)
		}
		a.ClientCAs = x509.NewCertPool()
		if !a.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("-client-ca: no certificate in %s", clientCA)
		}
	}
	if tokenFile != "" {
		token, err := os.ReadFile(tokenFile)
		if err != nil {
			return fmt.Errorf("-token-file: %w", err)
		}
		a.Token = strings.TrimSpace(string(token))
	}
	return nil
}

// Wrap puts the check in front of next.
func (a *Authenticator) Wrap(next http.Handler) http.Handler {
	refuse := a.Refuse
	if refuse == nil {
		refuse = func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusUnauthorized, "Unauthorized") }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.anonymous() || a.byCertificate(r) || a.byToken(r) {
			next.ServeHTTP(w, r)
			return
		}
		refuse(w, r)
	})
}

func (a *Authenticator) anonymous() bool { return a.ClientCAs == nil && a.Token == "" }

func (a *Authenticator) byCertificate(r *http.Request) bool {
	if a.ClientCAs == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	options := x509.VerifyOptions{
		Roots:         a.ClientCAs,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, certificate := range r.TLS.PeerCertificates[1:] {
		options.Intermediates.AddCert(certificate)
	}
	_, err := r.TLS.PeerCertificates[0].Verify(options)
	return err == nil
}

func (a *Authenticator) byToken(r *http.Request) bool {
	judge := authenticator.TokenFunc(func(_ context.Context, token string) (*authenticator.Response, bool, error) {
		good := a.Token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(a.Token)) == 1
		return &authenticator.Response{User: &user.DefaultInfo{Name: "kubewire"}}, good, nil
	})
	if _, good, _ := bearertoken.New(judge).AuthenticateRequest(r); good {
		return true
	}
	_, good, _ := websocket.NewProtocolAuthenticator(judge).AuthenticateRequest(r)
	return good
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client may have left
}
