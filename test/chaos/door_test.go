package chaos

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/site"
)

// The headers of an answer that may be old, and of a request that asks for no more.
const (
	headerStale = "Luna-Stale"
	headerRead  = "Luna-Read"
	readLocal   = "local"
)

// callTime is how long a client waits for an answer. A paused head answers when
// it goes on, and a head alone gives a write up after some seconds.
const callTime = 30 * time.Second

// door is a way into one head: its socket, or TLS from another machine.
type door struct {
	head  string
	base  string
	http  *http.Client
	local bool // reads ask for the head's own state, fresh or not
}

// socket is the door of root on the head itself, which stays when the head's
// cables are pulled. Each request has a connection of its own, so that one that
// never came to be is told from one that broke.
func socket(h *site.Head) *door {
	path := h.Socket()
	return &door{head: h.Name, base: "http://luna", http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// remote is the door of an administrator on another machine.
func remote(from *lab.Host, h *site.Head, trust *tls.Config) *door {
	return &door{head: h.Name, base: "https://" + h.Addr.String() + ":7051", http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: from.Dial, TLSClientConfig: trust,
	}}}
}

// credential reads the admin credential that luna cluster init left there.
func credential(t *testing.T, home string) *tls.Config {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, ".luna", "*.pem"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the admin credential in %s: %v, %v", home, files, err)
	}
	pair, err := tls.LoadX509KeyPair(files[0], files[0])
	must(t, err)
	text, err := os.ReadFile(files[0])
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("no authority in %s", files[0])
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13}
}

// refusal is the body of an answer that is none (docs/openapi.yaml).
type refusal struct {
	status  int
	Kind    string `json:"kind"`
	Object  string `json:"object"`
	Message string `json:"message"`
	stale   string // the header, which an answer has whatever it says
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.status, r.Kind, r.Message) }

// ask sends a request and reads its answer. The error of one that was refused is
// a *refusal; stale is the words of the header Luna-Stale.
func (d *door) ask(ctx context.Context, method, path string, in, out any) (stale string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var content []byte
	if in != nil {
		if content, err = json.Marshal(in); err != nil {
			return "", err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if d.local {
		req.Header.Set(headerRead, readLocal)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	stale = resp.Header.Get(headerStale)
	if resp.StatusCode >= http.StatusMultipleChoices {
		r := &refusal{status: resp.StatusCode, stale: stale}
		if err := json.NewDecoder(resp.Body).Decode(r); err != nil {
			return stale, fmt.Errorf("%s %s: %s, and its body: %w", method, path, resp.Status, err)
		}
		return stale, r
	}
	if out == nil {
		return stale, nil
	}
	return stale, json.NewDecoder(resp.Body).Decode(out)
}

// node is what the API says of a node, as far as it is looked at here.
type node struct {
	Name       string                       `json:"name"`
	Comment    *string                      `json:"comment"`
	Interfaces map[string]map[string]string `json:"interfaces"`
}

func (n node) state() state {
	s := state{there: true}
	if n.Comment != nil {
		s.comment = *n.Comment
	}
	return s
}

// group is the one that nodes are put into.
const group = "compute"

// do makes a call and tells how it ended; strange is an answer that no fault of a
// head or a link explains.
func (d *door) do(ctx context.Context, c call) (o outcome, strange error) {
	if c.verb == read {
		return d.look(ctx, c.node)
	}
	var err error
	switch c.verb {
	case add:
		_, err = d.ask(ctx, http.MethodPost, "/v1/nodes", map[string]string{"group": group, "names": c.node}, nil)
	case remove:
		_, err = d.ask(ctx, http.MethodDelete, "/v1/nodes/"+c.node, nil, nil)
	case comment:
		_, err = d.ask(ctx, http.MethodPatch, "/v1/nodes/"+c.node, map[string]string{"comment": c.value}, nil)
	}
	f, strange := fateOf(err)
	if strange != nil {
		strange = fmt.Errorf("%s: %s of node %s: %w", d.head, c.verb, c.node, strange)
	}
	return outcome{fate: f}, strange
}

// look reads a node.
func (d *door) look(ctx context.Context, name string) (outcome, error) {
	var n node
	old, err := d.ask(ctx, http.MethodGet, "/v1/nodes/"+name, nil, &n)
	seen := n.state()
	f, strange := fateOf(err)
	switch {
	case strange != nil:
		return outcome{fate: never}, fmt.Errorf("%s: read of node %s: %w", d.head, name, strange)
	case f == refused:
		f, seen = done, state{}
	}
	switch {
	case f == done && old != "":
		f = stale
	case f == unknown:
		f = never
	}
	return outcome{fate: f, seen: seen}, nil
}

// fateOf tells from the answer what became of a request, as docs/openapi.yaml has it.
func fateOf(err error) (f fate, strange error) {
	if err == nil {
		return done, nil
	}
	var r *refusal
	if !errors.As(err, &r) {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return nobody, nil
		}
		return unknown, nil
	}
	switch {
	case r.status == http.StatusNotFound && r.Object == "node", r.status == http.StatusConflict && r.Kind == "exists":
		return refused, nil
	case r.status == http.StatusServiceUnavailable:
		return never, nil
	case r.status == http.StatusGatewayTimeout:
		return unknown, nil
	}
	return unknown, r
}
