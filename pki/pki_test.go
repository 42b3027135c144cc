package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority("0123", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func signed(t *testing.T, a *Authority, name string, role Role) *x509.Certificate {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := Request(key, "somebody else") // what a request says of a name is not believed
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ParseRequest(text)
	if err != nil {
		t.Fatal(err)
	}
	pemText, err := a.Sign(csr, name, role, []netip.Addr{netip.MustParseAddr("10.30.255.254")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCert([]byte(pemText))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTokenComesBackWhole(t *testing.T) {
	a := authority(t)
	tok, err := NewToken(Fingerprint(a.Cert))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseToken(" " + tok.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != tok.ID || !bytes.Equal(got.Secret, tok.Secret) || !bytes.Equal(got.Fingerprint, tok.Fingerprint) || got.Hash() != tok.Hash() {
		t.Errorf("got %+v, want %+v", got, tok)
	}
	for _, bad := range []string{"", "hello", "luna2" + tok.String()[5:], tok.String()[:len(tok.String())-3], strings.Replace(tok.String(), ".", "", 1)} {
		if _, err := ParseToken(bad); err == nil {
			t.Errorf("%q is taken for a token", bad)
		}
	}
}

func TestSignedTellsWhoseHeadItIs(t *testing.T) {
	ours, others := authority(t), authority(t)
	head, admin := signed(t, ours, "h1", Head), signed(t, ours, "alice", Admin)
	print := Fingerprint(ours.Cert)
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		want  error // nil: accepted; errAny: refused
	}{
		"a head of ours":                       {[]*x509.Certificate{head, ours.Cert}, nil},
		"a head of another cluster":            {[]*x509.Certificate{signed(t, others, "h1", Head), others.Cert}, ErrOtherCluster},
		"an administrator of ours":             {[]*x509.Certificate{admin, ours.Cert}, errAny},
		"another's head behind our authority":  {[]*x509.Certificate{signed(t, others, "h1", Head), ours.Cert}, errAny},
		"our head without its authority":       {[]*x509.Certificate{head}, ErrOtherCluster},
		"nobody":                               {nil, errAny},
		"the authority itself, playing a head": {[]*x509.Certificate{ours.Cert}, errAny},
	} {
		err := Signed(c.chain, print)
		switch {
		case c.want == nil && err != nil, c.want != nil && err == nil:
			t.Errorf("%s: %v", name, err)
		case c.want != nil && !errors.Is(c.want, errAny) && !errors.Is(err, c.want):
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

var errAny = errors.New("any")

func TestCertificatesSayNameAndRole(t *testing.T) {
	a := authority(t)
	h := signed(t, a, "h1", Head)
	if h.Subject.CommonName != "h1" || RoleOf(h) != Head {
		t.Errorf("a head's certificate says %s %q", h.Subject, RoleOf(h))
	}
	if err := h.VerifyHostname("10.30.255.254"); err != nil {
		t.Error(err)
	}
	c := signed(t, a, "alice", Admin)
	if RoleOf(c) != Admin || len(c.IPAddresses) != 0 || len(c.ExtKeyUsage) != 1 {
		t.Errorf("an administrator's certificate would do for a server: %v %v", c.IPAddresses, c.ExtKeyUsage)
	}
}

func TestAnAuthorityIsKept(t *testing.T) {
	a := authority(t)
	key, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadAuthority(a.CertPEM(), key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := b.Credential("alice", now)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := ParseCert(text); err != nil || c.CheckSignatureFrom(a.Cert) != nil {
		t.Errorf("a credential that the authority does not know: %v", err)
	}
}
