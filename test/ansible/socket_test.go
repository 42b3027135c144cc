package ansible

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/clustervision/luna/test/site"
)

// serveSocket serves HTTP on a socket until the test ends, and gives its path.
func serveSocket(t testing.TB, path string, handle http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("unix", path)
	must(t, err)
	server := &http.Server{Handler: handle}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Close
	}()
	t.Cleanup(func() {
		must(t, server.Close())
		<-done
	})
	return path
}

// throughSocket is an HTTP client of the head's agent.
func throughSocket(h *site.Head) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", h.Socket())
		},
	}}
}

// pass passes a request on to a head, and its answer back if asked to.
func pass(t testing.TB, to *http.Client, w http.ResponseWriter, r *http.Request, back bool) {
	t.Helper()
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://localhost"+r.URL.RequestURI(), r.Body)
	if err != nil {
		t.Error(err)
		return
	}
	out.Header = r.Header.Clone()
	answer, err := to.Do(out)
	if err != nil {
		t.Error(err)
		return
	}
	defer answer.Body.Close()
	if back {
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body) // whoever asked is gone if it fails
	}
}
