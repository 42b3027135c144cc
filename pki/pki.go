// Package pki makes and reads what heads and administrators prove themselves
// with: the cluster's own certificate authority, the certificates it signs, and
// the join token by which a new head trusts it the first time.
//
// Everything is crypto/x509 and ECDSA P-256. A certificate says by its
// organisation whether its owner is a head or an administrator; heads are named
// by their common name.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// Role is what the owner of a certificate is, written as its organisation.
type Role string

// The roles.
const (
	Head  Role = "luna head"
	Admin Role = "luna admin"
)

// Certificates are valid from a day before they are made, for heads whose
// clocks lag, and for longer than the hardware lives: renewing them comes with
// removing a head and joining it anew.
const (
	backdate   = 24 * time.Hour
	caLife     = 30 * 365 * 24 * time.Hour
	memberLife = 10 * 365 * 24 * time.Hour
)

// Authority is the cluster's certificate authority.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes the authority of the cluster with that UUID.
func NewAuthority(cluster string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "luna cluster " + cluster},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert, key}, err
}

// LoadAuthority reads what CertPEM and KeyPEM gave.
func LoadAuthority(certPEM, keyPEM string) (*Authority, error) {
	cert, err := ParseCert([]byte(certPEM))
	if err != nil {
		return nil, fmt.Errorf("the cluster's certificate: %w", err)
	}
	key, err := ParseKey([]byte(keyPEM))
	if err != nil {
		return nil, fmt.Errorf("the cluster's key: %w", err)
	}
	return &Authority{cert, key}, nil
}

// CertPEM gives the authority's certificate.
func (a *Authority) CertPEM() string { return certPEM(a.Cert.Raw) }

// KeyPEM gives the authority's private key.
func (a *Authority) KeyPEM() (string, error) { return keyPEM(a.key) }

// Sign gives a certificate for the key of a signing request. What the request
// says besides the key is not believed: name, role and addresses are the
// caller's.
func (a *Authority) Sign(csr *x509.CertificateRequest, name string, role Role, addrs []netip.Addr, now time.Time) (string, error) {
	if err := csr.CheckSignature(); err != nil {
		return "", fmt.Errorf("the signing request of '%s': %w", name, err)
	}
	serial, err := newSerial()
	if err != nil {
		return "", err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{string(role)}},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(memberLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if role == Head {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		t.DNSNames = []string{name, "localhost"}
		for _, addr := range addrs {
			t.IPAddresses = append(t.IPAddresses, net.IP(addr.AsSlice()))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.Cert, csr.PublicKey, a.key)
	if err != nil {
		return "", fmt.Errorf("sign the certificate of '%s': %w", name, err)
	}
	return certPEM(der), nil
}

// Credential makes a key and an administrator's certificate, and gives them
// with the authority's certificate in one PEM text.
func (a *Authority) Credential(name string, now time.Time) ([]byte, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	_, csr, err := Request(key, name)
	if err != nil {
		return nil, err
	}
	cert, err := a.Sign(csr, name, Admin, nil, now)
	if err != nil {
		return nil, err
	}
	k, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	return []byte(cert + k + a.CertPEM()), nil
}

// NewKey makes a private key, as PEM holds it.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// Request makes a signing request for the key.
func Request(key crypto.Signer, name string) (pemText string, csr *x509.CertificateRequest, err error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return "", nil, fmt.Errorf("make a signing request for '%s': %w", name, err)
	}
	csr, err = x509.ParseCertificateRequest(der)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), csr, err
}

// ParseRequest reads a signing request.
func ParseRequest(text string) (*x509.CertificateRequest, error) {
	b, _ := pem.Decode([]byte(text))
	if b == nil || b.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("this is no signing request")
	}
	return x509.ParseCertificateRequest(b.Bytes)
}

// ParseCert reads the first certificate of a PEM text.
func ParseCert(text []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("this is no certificate in PEM")
	}
	return x509.ParseCertificate(b.Bytes)
}

// ParseKey reads a private key in PEM.
func ParseKey(text []byte) (crypto.Signer, error) {
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, errors.New("this is no key in PEM")
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, errors.New("this key cannot sign")
	}
	return s, nil
}

// KeyPEM gives a private key as PEM.
func KeyPEM(key crypto.Signer) (string, error) { return keyPEM(key) }

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func keyPEM(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encode a key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// RoleOf tells what the owner of a certificate is; "" if nothing to Luna.
func RoleOf(c *x509.Certificate) Role {
	for _, o := range c.Subject.Organization {
		if r := Role(o); r == Head || r == Admin {
			return r
		}
	}
	return ""
}

// Fingerprint is the SHA-256 of a certificate.
func Fingerprint(c *x509.Certificate) []byte {
	sum := sha256.Sum256(c.Raw)
	return sum[:]
}

// KeyFingerprint is the SHA-256 of a public key, in hex.
func KeyFingerprint(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encode a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// Signed tells whether the chain that a server showed ends in the certificate
// with that fingerprint, and that its own certificate is a head's. The chain
// must carry the authority's certificate.
func Signed(chain []*x509.Certificate, fingerprint []byte) error {
	if len(chain) == 0 {
		return errors.New("it shows no certificate")
	}
	for _, ca := range chain {
		if !ca.IsCA || !bytes.Equal(Fingerprint(ca), fingerprint) {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots}); err != nil {
			return err
		}
		if RoleOf(chain[0]) != Head {
			return errors.New("its certificate is not a head's")
		}
		return nil
	}
	return ErrOtherCluster
}

// ErrOtherCluster says that a head belongs to another cluster than the token.
var ErrOtherCluster = errors.New("the token is of another cluster")
