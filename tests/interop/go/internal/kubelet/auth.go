package kubelet

import (
	"crypto/subtle"
	"crypto/x509"
	"net/http"
	"strings"
)

// Authenticator accepts a request by its client certificate or its bearer token. With neither configured everybody
// is accepted. As in a kubelet, a certificate is asked for in the handshake and judged only here, so a bad one gets
// an HTTP answer rather than a TLS alert, and a bad one beside a good token does no harm.
type Authenticator struct {
	ClientCAs *x509.CertPool
	Token     string
}

// Wrap puts the check in front of next; it answers 401 for a missing or bad credential.
func (a *Authenticator) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.anonymous() || a.byCertificate(r) || a.byToken(r) {
			next.ServeHTTP(w, r)
			return
		}
		answer(w, http.StatusUnauthorized, "Unauthorized")
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
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return found && a.Token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(a.Token)) == 1
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client may have left
}
