package cli

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// credentials are the admin credentials of one user, perhaps of several
// clusters. A credential is one PEM file: the cluster's CA certificate, the
// administrator's certificate and its key.
type credentials struct {
	roots *x509.CertPool
	certs []tls.Certificate
}

// read adds the credential of a file.
func (c *credentials) read(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var cas []*x509.Certificate
	var chain, key []byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			key = append(key, pem.EncodeToMemory(block)...)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		if cert.IsCA {
			cas = append(cas, cert)
		} else {
			chain = append(chain, pem.EncodeToMemory(block)...)
		}
	}
	if len(cas) == 0 {
		return errors.New("there is no CA certificate in it")
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fmt.Errorf("it does not hold a certificate with its key: %w", err)
	}
	for _, ca := range cas {
		c.roots.AddCert(ca)
	}
	c.certs = append(c.certs, cert)
	return nil
}

// config trusts the heads of every cluster that there is a credential for, and
// shows each head the credential of its own cluster.
func (c *credentials) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    c.roots,
		GetClientCertificate: func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			for i := range c.certs {
				if asked.SupportsCertificate(&c.certs[i]) == nil {
					return &c.certs[i], nil
				}
			}
			return &tls.Certificate{}, nil // the head says what it thinks of none
		},
	}
}

// keepCredential stores a credential for the commands to find, and gives the
// file's name.
func keepCredential(cluster, credential string) (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(home, ".luna")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(dir, cluster+".pem")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	if _, err = f.WriteString(credential); err == nil {
		err = f.Sync()
	}
	return file, errors.Join(err, f.Close())
}

// keepCredential stores the credential of the first administrator and tells where.
func (s *session) keepCredential(cluster, credential string) {
	file, err := keepCredential(cluster, credential)
	if err != nil {
		s.warn("the admin credential could not be stored: %v; make another with `luna cluster credential`", err)
		return
	}
	s.note("the admin credential, for luna on any machine, is in %s", file)
}
