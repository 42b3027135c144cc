package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/clustervision/luna/api"
)

// apiPort is the TCP port of a head's API where the address names none.
const apiPort = "7051"

// connect gives a client of the head that the options and the environment name.
// It opens no connection yet.
func (a *app) connect(stderr io.Writer) (*api.Client, error) {
	server := a.serverName()
	socket, hosts, err := whereHeadsAre(server)
	if err != nil {
		return nil, err
	}
	t := &transport{http: &http.Transport{DisableCompression: true}, server: server, timeout: a.timeout}
	if a.debug {
		t.log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	client := &api.Client{HTTP: &http.Client{Transport: t}}
	if socket != "" {
		t.http.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
		client.Base = api.SocketBase
		return client, nil
	}
	creds, err := a.credentials(stderr)
	if err != nil {
		return nil, err
	}
	t.http.DialTLSContext = firstOf(hosts, creds.config(), stderr)
	client.Base = "https://" + hosts[0]
	return client, nil
}

// whereHeadsAre reads what names a head: the path of its socket, or the host and port of one
// or more heads of a cluster, with commas between them.
func whereHeadsAre(server string) (socket string, hosts []string, err error) {
	bad := usagef("argument --server: '%s' is no address: give unix:///PATH or https://HOST[:%s], the latter also of several heads, with commas between them", server, apiPort)
	for one := range strings.SplitSeq(server, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		switch {
		case err != nil:
			return "", nil, bad
		case u.Scheme == "unix" && u.Host == "" && u.Path != "" && one == server:
			return u.Path, nil, nil
		case u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "":
			return "", nil, bad
		case u.Port() == "":
			hosts = append(hosts, net.JoinHostPort(u.Hostname(), apiPort))
		default:
			hosts = append(hosts, u.Host)
		}
	}
	return "", hosts, nil
}

// anotherAfter is how long a head gets to take up a connection while there are others to ask.
const anotherAfter = 3 * time.Second

// firstOf connects to the first of the hosts that takes up a connection, and says on
// stderr which did not.
func firstOf(hosts []string, config *tls.Config, stderr io.Writer) func(context.Context, string, string) (net.Conn, error) {
	dialer := tls.Dialer{Config: config}
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		for i, host := range hosts[:len(hosts)-1] {
			bounded, cancel := context.WithTimeout(ctx, anotherAfter)
			c, err := dialer.DialContext(bounded, network, host)
			cancel()
			if err == nil {
				return c, nil
			}
			if ctx.Err() != nil {
				return nil, err
			}
			fmt.Fprintf(stderr, "WARNING:luna:%s cannot be asked (%v): now %s is\n", host, err, hosts[i+1])
		}
		return dialer.DialContext(ctx, network, hosts[len(hosts)-1])
	}
}

// serverName is the head to talk to, or the heads, as the user wrote it.
func (a *app) serverName() string {
	for _, s := range []string{a.server, os.Getenv("LUNA_SERVER")} {
		if s != "" {
			return s
		}
	}
	if socket := os.Getenv("LUNA_SOCKET"); socket != "" { // as it was set for the agent
		return "unix://" + socket
	}
	return DefaultServer
}

// local tells whether the head is on this machine, so that paths mean the same
// to both.
func (a *app) local() bool { return strings.HasPrefix(a.serverName(), "unix:") }

// errNoAnswer says that a head took longer than it was given.
var errNoAnswer = errors.New("no answer")

// transport bounds each call in time and says in an administrator's words why
// one failed.
type transport struct {
	http    *http.Transport
	server  string
	timeout time.Duration // 0 for none
	log     *slog.Logger  // of --debug, else nil
}

// RoundTrip sends a request; the time runs until the answer's body is closed.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if t.timeout > 0 {
		ctx, cancel = context.WithTimeout(r.Context(), t.timeout)
	}
	start := time.Now()
	resp, err := t.http.RoundTrip(r.WithContext(ctx))
	if t.log != nil {
		status := ""
		if resp != nil {
			status = resp.Status
		}
		t.log.Debug("asked the head", "server", t.server, "method", r.Method, "path", r.URL.Path, "status", status, "took", time.Since(start), "error", err)
	}
	if err != nil {
		cancel()
		return nil, t.explain(r, err)
	}
	resp.Body = &boundBody{resp.Body, cancel}
	return resp, nil
}

type boundBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *boundBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// explain adds to an error of the network what to do about it.
func (t *transport) explain(r *http.Request, err error) error {
	path, local := strings.CutPrefix(t.server, "unix://")
	where := "on that head"
	if local {
		where = "here"
	}
	var untrusted *tls.CertificateVerificationError
	var name x509.HostnameError
	var alert tls.AlertError
	switch {
	case errors.Is(err, context.DeadlineExceeded) && r.Method != http.MethodGet:
		return fmt.Errorf("%w within %v: the change may have been made or not, so look before trying again", errNoAnswer, t.timeout)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v: is the agent well? try `systemctl status luna` %s, or --timeout", t.timeout, where)
	case local && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the socket %s is for root alone: use sudo, or --server https://HEAD with an admin credential", path)
	case local && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		return fmt.Errorf("nobody listens on %s: is the agent running? try `systemctl status luna`", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: is the agent running %s? try `systemctl status luna` there", err, where)
	case errors.As(err, &name):
		return fmt.Errorf("%w: call the head by an address or name that its certificate has", err)
	case errors.As(err, &untrusted):
		return fmt.Errorf("the head's certificate is of no cluster that the credentials are for (%w): get one with `luna cluster credential` on a head of its cluster, as root", err)
	case errors.As(err, &alert):
		return fmt.Errorf("the head refuses the credential (%w): get one with `luna cluster credential` on a head of its cluster, as root", err)
	}
	return err
}

// systemCredential is where a head keeps the credential of its administrators.
const systemCredential = "/etc/luna/admin.pem" //nolint:gosec // G101: a path

// credentialFiles are the files to look for credentials in, and whether they
// were asked for by name.
func (a *app) credentialFiles() (files []string, asked bool) {
	for _, f := range []string{a.credential, os.Getenv("LUNA_CREDENTIAL")} {
		if f != "" {
			return []string{f}, true
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		files, _ = filepath.Glob(filepath.Join(home, ".luna", "*.pem")) // the pattern is well-formed
	}
	return append(files, systemCredential), false
}

// credentials reads every credential there is: those of several clusters live
// side by side.
func (a *app) credentials(stderr io.Writer) (*credentials, error) {
	files, asked := a.credentialFiles()
	all := &credentials{roots: x509.NewCertPool()}
	for _, f := range files {
		err := all.read(f)
		switch {
		case err == nil:
		case asked:
			return nil, fmt.Errorf("cannot use the credential %s: %w", f, err)
		case f == systemCredential && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		default:
			fmt.Fprintf(stderr, "WARNING:luna:the credential %s is passed over: %v\n", f, err)
		}
	}
	if len(all.certs) == 0 {
		return nil, fmt.Errorf("an admin credential is needed for https and none is in ~/.luna or at %s: make one with `luna cluster credential` on a head as root, and store it as ~/.luna/NAME.pem, mode 0600", systemCredential)
	}
	return all, nil
}
