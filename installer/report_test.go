package installer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/boot"
)

// TestReporterOrder: all stages arrive in their order, while of a download only
// the newest counts, and the installation never waits.
func TestReporterOrder(t *testing.T) {
	var (
		mu    sync.Mutex
		got   []string
		last  int
		first = make(chan struct{}) // closed when the head answers the first report at last
	)
	r := newReporter(func(_ context.Context, rep boot.Report) error {
		<-first
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %.0f", rep.Stage, rep.Percent))
		if rep.Run == "" || rep.Number <= last {
			t.Errorf("%s is number %d of run '%s', after %d", rep.Stage, rep.Number, rep.Run, last)
		}
		last = rep.Number
		return nil
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ctx) })
	defer wg.Wait()
	defer cancel()
	r.tell(boot.Report{Stage: boot.StageRequest})
	for percent := range 100 {
		r.tell(boot.Report{Stage: boot.StageDownload, Percent: float64(percent)})
	}
	r.tell(boot.Report{Stage: boot.StageUnpack})
	close(first)
	r.flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	want := []string{"install.request 0", "install.download 99", "install.unpack 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

// TestReporterDeadHeads: while no head listens the newest report waits for one,
// and older ones are given up.
func TestReporterDeadHeads(t *testing.T) {
	var (
		mu             sync.Mutex
		alive          bool
		tried, arrived []string
	)
	r := newReporter(func(_ context.Context, rep boot.Report) error {
		mu.Lock()
		defer mu.Unlock()
		if tried = append(tried, rep.Stage); !alive {
			return errors.New("nobody")
		}
		arrived = append(arrived, rep.Stage)
		return nil
	}, slog.New(slog.DiscardHandler))
	r.pause = time.Millisecond
	wasTried := func(stage string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Contains(tried, stage)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	r.tell(boot.Report{Stage: "one"})
	r.tell(boot.Report{Stage: "two"})
	wg.Go(func() { r.run(ctx) })
	eventually(t, wasTried("two"))
	r.tell(boot.Report{Stage: "three"})
	eventually(t, wasTried("three"))
	mu.Lock()
	alive = true
	mu.Unlock()
	r.flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"three"}, arrived); diff != "" {
		t.Errorf("arrived (-want +got):\n%s", diff)
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatal("the condition does not hold after 20 s")
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
}

// TestHeadsWalk: a dead head, a hanging up one, and one that refuses are passed
// over, and the one that answered is asked first from then on.
// TestLastReport: two heads are told of the success, which is told only once, or
// one if there is no other.
func TestLastReport(t *testing.T) {
	var heads, told []string
	for range 3 {
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told = append(told, r.Host) }))
		t.Cleanup(s.Close)
		heads = append(heads, s.Listener.Addr().String())
	}
	for name, test := range map[string]struct {
		stage string
		heads []string
		want  []string
	}{
		"another stage":  {boot.StagePostScript, heads, heads[:1]},
		"the last":       {boot.StageSuccess, heads, heads[:2]},
		"one is dead":    {boot.StageSuccess, append([]string{"127.0.0.1:1"}, heads...), heads[:2]},
		"one alone":      {boot.StageSuccess, heads[:1], heads[:1]},
		"one, and ruins": {boot.StageSuccess, []string{"127.0.0.1:1", heads[2], "127.0.0.1:2"}, heads[2:]},
	} {
		t.Run(name, func(t *testing.T) {
			told = nil
			h := newHeads(Boot{Node: "node001", Heads: test.heads})
			defer h.client.CloseIdleConnections()
			if err := h.report(t.Context(), boot.Report{Stage: test.stage}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, told); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHeadsWalk(t *testing.T) {
	asked := map[string]int{}
	var mu sync.Mutex
	head := func(name string, h http.HandlerFunc) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked[name]++
			mu.Unlock()
			h(w, r)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	refusing := head("refusing", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the token is of an older boot\nmore", http.StatusForbidden)
	})
	breaking := head("breaking", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	good := head("good", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if got, want := r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization")+" "+string(body),
			`POST /status?node=node001 Bearer T {"stage":"s"}`; got != want {
			t.Errorf("the head got %q, want %q", got, want)
		}
	})
	h := newHeads(Boot{Node: "node001", Token: "T", Heads: []string{l.Addr().String(), refusing, breaking}})
	defer h.client.CloseIdleConnections()
	err = h.report(t.Context(), boot.Report{Stage: "s"})
	if err == nil {
		t.Fatal("no error though no head takes the report")
	}
	for _, want := range []string{"connection refused", "403 Forbidden: the token is of an older boot", refusing, breaking} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error says nothing of %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "more") {
		t.Errorf("the error has more than the first line of the refusal:\n%v", err)
	}
	h.learn([]string{refusing, good})
	if diff := cmp.Diff([]string{refusing, good, l.Addr().String(), breaking}, h.list()); diff != "" {
		t.Errorf("heads after the plan (-want +got):\n%s", diff)
	}
	for range 3 {
		if err := h.report(t.Context(), boot.Report{Stage: "s"}); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if asked["good"] != 3 || asked["refusing"] != 2 {
		t.Errorf("asked %v, want good 3 times and refusing twice: once before the plan, once after", asked)
	}
}
