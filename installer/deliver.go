package installer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/swarm"
)

const (
	// workName is the folder of the installer in the target.
	workName = ".luna-install"
	// Luna's ports for peers, which firewalls of a site let through.
	portMin, portMax = 7052, 7200
	// reportEvery is how often the heads hear of a download.
	reportEvery = 2 * time.Second
	// stalled is after how long without a byte an attempt is given up: there may
	// be other heads by now, which only a new plan names.
	stalled = 5 * time.Minute
	// quiet is after how long without asking the neighbours are taken to be
	// done.
	quiet = 5 * time.Second
)

// delivery is the artifact on this node: on its way, then served to others.
type delivery struct {
	*swarm.Download
	workDir string
	http    *http.Transport
	end     context.CancelFunc
	running sync.WaitGroup // the swarm
}

// deliver joins the swarm and begins to fetch.
func deliver(ctx context.Context, a boot.PlanArtifact, workDir string, from *heads, log *slog.Logger) (*delivery, error) {
	var desc swarm.Descriptor
	if err := json.Unmarshal(a.Descriptor, &desc); err != nil {
		return nil, fmt.Errorf("the plan's descriptor is damaged: %w", err)
	}
	if desc.SHA256 != a.SHA256 || desc.Size != a.Size {
		return nil, fmt.Errorf("the plan contradicts itself: artifact %s of %d bytes, descriptor of %s of %d bytes", a.SHA256, a.Size, desc.SHA256, desc.Size)
	}
	d := &delivery{workDir: workDir, http: &http.Transport{
		DialContext:        (&net.Dialer{Timeout: dialTimeout}).DialContext,
		DisableCompression: true, // the artifact is compressed
		IdleConnTimeout:    30 * time.Second,
		TLSClientConfig:    trust(),
	}}
	s, err := swarm.New(swarm.Config{
		PortMin: portMin, PortMax: portMax, Logger: log,
		HTTP: bearer{from.token, d.http},
	})
	if err != nil {
		return nil, fmt.Errorf("join the swarm: %w", err)
	}
	ctx, d.end = context.WithCancel(ctx)
	d.running.Go(func() { _ = s.Run(ctx) }) // it returns nil
	d.Download, err = s.Fetch(ctx, desc, filepath.Join(workDir, "artifact"), from.source(a.SHA256))
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// source names the heads in every way that they serve an artifact.
func (h *heads) source(sha256 string) swarm.Source {
	var s swarm.Source
	for _, head := range h.list() {
		s.Trackers = append(s.Trackers, h.scheme+"://"+head+"/announce")
		s.HTTP = append(s.HTTP, h.scheme+"://"+head+"/artifacts/"+sha256)
	}
	return s
}

// bearer shows the boot token to the heads with every request.
type bearer struct {
	token string
	next  *http.Transport
}

func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	if b.token != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(req)
}

// close leaves the swarm and removes the artifact. A nil delivery has nothing
// to close.
func (d *delivery) close() {
	if d == nil {
		return
	}
	d.end()
	d.running.Wait()
	d.http.CloseIdleConnections()
	_ = os.RemoveAll(d.workDir) // if that fails it is unmounted, or seen by nobody but the administrator
}

// fetch brings the artifact here and unpacks it meanwhile.
func (a *attempt) fetch(ctx context.Context) error {
	root := a.plan.Root
	workDir, err := a.target.prepare(root.Size, root.UnpackedSize)
	if err != nil {
		// The partscript ended well, but did not do what it is for.
		return &stageError{stage: boot.StagePartScript, err: err}
	}
	a.artifact, err = deliver(ctx, root, workDir, a.heads, a.log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { a.watch(ctx, cancel) })
	defer func() {
		cancel(nil)
		watching.Wait()
	}()

	in := &stream{ReadCloser: a.artifact.Reader()}
	defer in.Close()
	defer context.AfterFunc(ctx, func() { in.Close() })() // nothing else ends a Read that waits
	sum, err := image.Unpack(ctx, in, a.target.path, image.UnpackOptions{Unprivileged: os.Geteuid() != 0})
	switch {
	case context.Cause(ctx) != nil: // what Unpack says then is only the consequence
		return context.Cause(ctx)
	case in.err != nil:
		return in.err
	case err != nil:
		return &stageError{stage: boot.StageUnpack, err: err}
	case sum.SHA256 != root.SHA256:
		return &stageError{stage: boot.StageUnpack, err: fmt.Errorf("the artifact has the hash %s, the plan wants %s", sum.SHA256, root.SHA256)}
	}
	if err := a.artifact.Wait(ctx); err != nil {
		return err
	}
	if sum.LostXattrs > 0 {
		a.log.Warn("the target's file system cannot hold some extended attributes of the image", "lost", sum.LostXattrs)
	}
	a.unpacked = time.Now()
	p := a.artifact.Progress()
	a.log.Info("the tree is unpacked", "files", sum.Files, "mib", sum.Unpacked/mib, "from_peers_mib", p.FromPeers/mib, "from_heads_mib", p.FromHTTP/mib)
	return nil
}

// stream remembers how the artifact ended, so that a download that broke off is
// not taken for an artifact that cannot be unpacked.
type stream struct {
	io.ReadCloser
	err error
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// watch tells heads and console how far the download is, and gives it up when
// nothing comes any more. It returns when the download is complete.
func (a *attempt) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(reportEvery / 10)
	defer tick.Stop()
	var (
		done     int64 = -1
		since          = time.Now()
		reported       = time.Now()
		told           = 0 // tens of percent on the console
	)
	for {
		p := a.artifact.Progress()
		percent := 100 * float64(p.Done) / float64(p.Total)
		if p.Done != done {
			done, since = p.Done, time.Now()
		}
		if tens := int(percent) / 10; tens > told && p.Done < p.Total {
			told = tens
			a.log.Info("downloading", "percent", 10*tens, "peers", p.Peers, "mib_per_s", p.Rate/mib)
		}
		switch {
		case p.Done == p.Total:
			a.stage(boot.StageUnpack)
			return
		case time.Since(since) > stalled:
			giveUp(fmt.Errorf("no byte came for %s, at %.0f %% (last trouble: %s)", stalled, percent, p.Trouble))
			return
		case time.Since(reported) >= reportEvery:
			reported = time.Now()
			a.reporter.tell(boot.Report{Stage: boot.StageDownload, Percent: percent, Version: a.plan.ImageVersion})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if p := a.artifact.Progress(); p.Done < p.Total {
				return
			}
		}
	}
}

// seed goes on serving neighbours until the deadline, or until none of them asks
// anything more, or lacks anything: the heads serve those that come later.
func (d *delivery) seed(ctx context.Context, deadline time.Time, log *slog.Logger) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	first := d.Progress()
	sent, since := first.Uploaded, time.Now()
	for {
		p := d.Progress()
		if p.Uploaded != sent {
			sent, since = p.Uploaded, time.Now()
		}
		if p.Lacking == 0 || time.Since(since) > quiet || sleep(ctx, time.Second/2) != nil {
			log.Info("seeded", "mib", p.Uploaded/mib)
			return
		}
	}
}
