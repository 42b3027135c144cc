package installer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clustervision/luna/boot"
)

const (
	// dialTimeout is short because a dead head on the same network does not
	// answer at all, and every other head is as good.
	dialTimeout = 2 * time.Second
	// planTimeout bounds one request for the plan: a head under the load of a
	// whole cluster that boots may be slow, but it is not stuck. Before any head
	// gets so long, all get planHurry: one that hangs takes up connections still.
	planTimeout = 60 * time.Second
	planHurry   = 5 * time.Second
	// reportTimeout bounds one report to one head.
	reportTimeout = 5 * time.Second
	// mostPlan is the largest plan that is read, in bytes; descriptor and
	// scripts are some tens of kilobytes.
	mostPlan = 16 << 20
)

// heads asks the heads as the node that this is. It knows their addresses and
// which of them answered last. Safe for concurrent use.
type heads struct {
	node, token string
	version     string // of the osimage, which this kernel is of
	scheme      string
	client      *http.Client

	mu    sync.Mutex
	addrs []string // "address:port", in this node's order
	last  string   // who answered last
}

func newHeads(b Boot) *heads {
	scheme := "http"
	if b.HTTPS {
		scheme = "https"
	}
	return &heads{
		node: b.Node, token: b.Token, version: b.Version, addrs: b.Heads, scheme: scheme,
		client: &http.Client{Transport: &http.Transport{
			Proxy:               nil, // heads are neighbours; a proxy variable in the image's initrd is not meant for them
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:     trust(),
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     30 * time.Second,
		}},
	}
}

// clusterCA is where the initrd has the certificate of the cluster's authority.
const clusterCA = "/etc/luna/ca.pem"

// trust accepts heads whose certificate is signed by the cluster, or by whoever
// the image trusts: a site may put its own in front of the heads.
func trust() *tls.Config {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if pem, err := os.ReadFile(clusterCA); err == nil {
		roots.AppendCertsFromPEM(pem)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// list returns the addresses of the heads in this node's order.
func (h *heads) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.addrs)
}

// learn puts the heads of a plan first. Those known before stay behind them:
// the plan is the newer truth, but it was rendered before a head died.
func (h *heads) learn(addrs []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(addrs)
	for _, a := range h.addrs {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	h.addrs = all
}

// walk calls ask for one head after the other until it returns nil, from the
// one that answered last, and returns what every one of them said.
func (h *heads) walk(ctx context.Context, ask func(head string) error) error {
	order := h.list()
	h.mu.Lock()
	if i := slices.Index(order, h.last); i > 0 {
		order = append([]string{h.last}, slices.Delete(order, i, i+1)...)
	}
	h.mu.Unlock()
	var said []string
	refused := false
	for _, head := range order {
		err := ask(head)
		if err == nil {
			h.mu.Lock()
			h.last = head
			h.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		said = append(said, fmt.Sprintf("head %s: %v", head, err))
		refused = refused || errors.Is(err, errRefused)
	}
	err := errors.New(strings.Join(said, "; ")) // one line, for a console
	if refused {
		return &refusedError{err}
	}
	return err
}

// errRefused is found in an error where a head has answered that it does not take this
// for the node's present boot: its token is too old, or the node has another name.
var errRefused = errors.New("a head refuses this boot")

type refusedError struct{ error }

func (e *refusedError) Is(target error) bool { return target == errRefused }

// plan fetches the plan from the first head that has a good one.
func (h *heads) plan(ctx context.Context) (boot.Plan, error) {
	var p boot.Plan
	var err error
	for _, patience := range []time.Duration{planHurry, planTimeout} {
		slow := false
		err = h.walk(ctx, func(head string) error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			body, err := h.do(ctx, http.MethodGet, head, "/plan", nil)
			if err != nil {
				slow = slow || errors.Is(err, context.DeadlineExceeded)
				return err
			}
			p, err = parsePlan(body, h.node)
			return err
		})
		if err == nil || !slow {
			break
		}
	}
	return p, err
}

// report tells the first head that listens. A head gathers reports for a moment
// before it passes them on, and what it has gathered dies with it: a later stage
// makes up for that, but after the last one there is none, so that two heads are
// told of it, if there are two.
func (h *heads) report(ctx context.Context, r boot.Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	told, enough := 0, 1
	if r.Stage == boot.StageSuccess {
		enough = 2
	}
	err = h.walk(ctx, func(head string) error {
		ctx, cancel := context.WithTimeout(ctx, reportTimeout)
		defer cancel()
		if _, err := h.do(ctx, http.MethodPost, head, "/status", body); err != nil {
			return err
		}
		if told++; told < enough {
			return errOneMore
		}
		return nil
	})
	if told > 0 && ctx.Err() == nil {
		return nil
	}
	return err
}

// errOneMore goes on to the next head.
var errOneMore = errors.New("it was told, and another one shall be")

// do makes one request to one head and returns the body of a good answer. The
// error of a refusal holds the first line of what the head says about it.
func (h *heads) do(ctx context.Context, method, head, path string, body []byte) ([]byte, error) {
	query := url.Values{"node": {h.node}}
	if h.version != "" {
		query.Set("version", h.version)
	}
	u := url.URL{Scheme: h.scheme, Host: head, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := h.client.Do(req)
	if err != nil {
		var ue *url.Error // its text repeats method and URL, which the caller's line has room for only once
		if errors.As(err, &ue) {
			err = ue.Err
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("it closed the connection without an answer")
		}
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, mostPlan+1))
	switch {
	case resp.StatusCode/100 != 2:
		line, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
		err := fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, line)
		if resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusUnauthorized {
			err = &refusedError{err}
		}
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%s %s: the answer broke off after %d bytes: %w", method, path, len(data), err)
	case len(data) > mostPlan:
		return nil, fmt.Errorf("%s %s: the answer is larger than %d bytes", method, path, mostPlan)
	}
	return data, nil
}
