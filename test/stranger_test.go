package test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/site"
)

// TestStrangers: who has no certificate of the cluster gets nowhere, by whatever
// door; who has an administrator's gets to the API and not to the heads' own doors.
func TestStrangers(t *testing.T) {
	s := newMesh(t, "strangers", 2)
	other := &site.Site{Lab: s.Lab, Bin: s.Bin}
	x1 := addHead(t, other, "x1", "10.30.255.101")
	must(t, other.Mesh(t.Context()))
	h1 := s.Heads[0]
	luna(t, h1, "network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16")
	before, err := everything(t.Context(), h1)
	must(t, err)
	host := x1.Host // somebody on the same network

	const api, raft = "10.30.255.254:7051", "10.30.255.254:8300"
	admin := credential(t, s, h1)
	for _, c := range []struct {
		whose       string
		certificate *tls.Certificate
		api         int  // the status; 0 is no connection
		raft        bool // there is a connection
	}{
		{"nobody's", nil, http.StatusForbidden, false},
		{"a self-made", selfMade(t, "h1"), 0, false},
		{"another cluster's", headOf(t, x1), 0, false},
		{"an administrator's", admin, http.StatusOK, false},
		{"a head's", headOf(t, s.Heads[1]), http.StatusOK, true},
	} {
		t.Run("API with "+c.whose+" certificate", func(t *testing.T) {
			status, answer, err := ask(t.Context(), host, c.certificate, http.MethodGet, "https://"+api+"/v1/nodes")
			if status != c.api || (err != nil) != (c.api == 0) {
				t.Errorf("got %d %s %v, want %d", status, answer, err, c.api)
			}
			if status == http.StatusForbidden && !strings.Contains(answer, "a client certificate of this cluster is needed") {
				t.Errorf("the reason is not in the answer: %s", answer)
			}
		})
		t.Run("raft with "+c.whose+" certificate", func(t *testing.T) {
			if err := talk(t.Context(), host, c.certificate, raft); (err == nil) != c.raft {
				t.Errorf("got %v, want a connection: %t", err, c.raft)
			}
		})
	}
	t.Run("the heads' own language with an administrator's certificate", func(t *testing.T) {
		status, answer, err := ask(t.Context(), host, admin, http.MethodPost, "https://"+api+"/v1/commands")
		if err != nil || status != http.StatusForbidden || !strings.Contains(answer, "only heads may") {
			t.Errorf("got %d %s %v, want %d and the reason", status, answer, err, http.StatusForbidden)
		}
	})
	t.Run("gossip without a key", func(t *testing.T) { gossip(t, host, nil, h1) })
	t.Run("gossip with a key of one's own", func(t *testing.T) { gossip(t, host, make([]byte, 32), h1) })
	t.Run("gossip of garbage", func(t *testing.T) { must(t, garbage(t.Context(), host, h1.Addr.String()+":7946")) })
	t.Run("a credential", func(t *testing.T) { credentials(t, s, other, host) })

	must(t, s.Settle(t.Context()))
	if got := names(t, h1); got != "h1 h2" {
		t.Errorf("the heads are %s after all that, want h1 h2", got)
	}
	unchanged(t, h1, before)
}

// selfMade is a certificate that calls itself a head's, signed by nobody.
func selfMade(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// headOf is the certificate of a head, with its key, from its disk.
func headOf(t *testing.T, h *site.Head) *tls.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.Dir(), "identity.json"))
	must(t, err)
	var id struct{ Key, Certificate, CA string }
	must(t, json.Unmarshal(text, &id))
	pair, err := tls.X509KeyPair([]byte(id.Certificate+id.CA), []byte(id.Key))
	must(t, err)
	return &pair
}

// credentialFile is where the head that made the cluster left the credential of
// the administrator.
func credentialFile(t *testing.T, s *site.Site, h *site.Head) string {
	t.Helper()
	var cluster struct {
		UUID string `json:"uuid"`
	}
	must(t, h.JSON(t.Context(), &cluster, "cluster", "show"))
	return filepath.Join(s.Lab.Dir(), ".luna", cluster.UUID+".pem")
}

func credential(t *testing.T, s *site.Site, h *site.Head) *tls.Certificate {
	t.Helper()
	text, err := os.ReadFile(credentialFile(t, s, h))
	must(t, err)
	pair, err := tls.X509KeyPair(text, text)
	must(t, err)
	return &pair
}

// withCertificate shows the certificate even to a head that does not want it, and
// believes every head.
func withCertificate(certificate *tls.Certificate) *tls.Config {
	config := &tls.Config{InsecureSkipVerify: true}
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return config
}

// ask is curl -k: one request from a host.
func ask(ctx context.Context, from *lab.Host, certificate *tls.Certificate, method, url string) (status int, answer string, err error) {
	client := from.HTTP()
	client.Transport.(*http.Transport).TLSClientConfig = withCertificate(certificate)
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("{}"))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// talk connects by TLS and waits for what comes. A server of TLS 1.3 says what it
// thinks of a client's certificate only after the client takes itself to be
// connected: so the error may come with the first byte. Nil means that the server
// kept the connection.
func talk(ctx context.Context, from *lab.Host, certificate *tls.Certificate, address string) error {
	raw, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer raw.Close()
	conn := tls.Client(raw, withCertificate(certificate))
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}

// gossip tries to join by a memberlist of one's own.
func gossip(t *testing.T, from *lab.Host, key []byte, at *site.Head) {
	t.Helper()
	config := memberlist.DefaultLANConfig()
	config.Name, config.BindAddr, config.BindPort = "stranger", "10.30.255.101", 17946
	config.SecretKey, config.LogOutput = key, io.Discard
	must(t, from.Do(func() error {
		list, err := memberlist.Create(config)
		if err != nil {
			return err
		}
		defer list.Shutdown()
		if _, err := list.Join([]string{at.Addr.String() + ":7946"}); err == nil {
			return fmt.Errorf("it joins, and sees %d members", list.NumMembers())
		}
		return nil
	}))
}

// garbage says something that is no gossip, in packets and in a stream.
func garbage(ctx context.Context, from *lab.Host, address string) error {
	for _, network := range []string{"udp", "tcp"} {
		conn, err := from.Dial(ctx, network, address)
		if err != nil {
			return err
		}
		for range 100 {
			noise := make([]byte, 1400)
			_, _ = rand.Read(noise) // never fails
			if _, err := conn.Write(noise); err != nil {
				break // a stream is closed at the first nonsense
			}
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	return nil
}

// credentials tries what an administrator's credential is good for, on a host that
// is no head of the cluster.
func credentials(t *testing.T, s, other *site.Site, host *lab.Host) {
	h1, h2 := s.Heads[0], s.Heads[1]
	ctx := t.Context()
	for _, h := range []*site.Head{h1, h2} {
		out, err := h.LunaFrom(ctx, host, s.Lab.Dir(), "network", "list", "-o", "json")
		if err != nil || !strings.Contains(out, `"cluster"`) {
			t.Errorf("a list by %s: %q, %v", h.Name, out, err)
		}
	}
	if _, err := h2.LunaFrom(ctx, host, s.Lab.Dir(), "network", "add", "-n", "other", "-N", "10.31.0.0", "-P", "16"); err != nil {
		t.Errorf("a write by h2: %v", err)
	}
	if _, err := h1.LunaFrom(ctx, host, s.Lab.Dir(), "network", "delete", "other"); err != nil {
		t.Errorf("a write by h1: %v", err)
	}
	empty := t.TempDir()
	_, err := h1.LunaFrom(ctx, host, empty, "network", "list")
	refused(t, err, 1, "an admin credential is needed")
	foreign := t.TempDir()
	must(t, os.Mkdir(filepath.Join(foreign, ".luna"), 0o700))
	text, err := os.ReadFile(credentialFile(t, other, other.Heads[0]))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(foreign, ".luna", "other.pem"), text, 0o600))
	_, err = h1.LunaFrom(ctx, host, foreign, "network", "list")
	refused(t, err, 1, "of no cluster that the credentials are for")
}
