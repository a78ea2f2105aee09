// kwproxies tells which proxy Go, and so client-go, takes. Each line of its stdin is a JSON object: `env`, the
// environment, and `url`, the server. Each line of its stdout is the proxy's URL as JSON: empty for none, null for an
// environment that Go refuses.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"net/url"
	"os"

	"golang.org/x/net/http/httpproxy"
)

type question struct {
	Env map[string]string `json:"env"`
	URL string            `json:"url"`
}

func answer(q question) *string {
	os.Clearenv()
	for name, value := range q.Env {
		os.Setenv(name, value)
	}
	server, err := url.Parse(q.URL)
	if err != nil {
		log.Fatal(err)
	}
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(server)
	if err != nil {
		return nil
	}
	said := ""
	if proxy != nil {
		said = proxy.String()
	}
	return &said
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			log.Fatal(err)
		}
		if err := answers.Encode(answer(q)); err != nil {
			log.Fatal(err)
		}
	}
}
