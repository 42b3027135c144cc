package agent

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/pki"
)

// identity is what makes this head a member, kept in DataDir/identity.json. It
// is written once, when the head begins or joins a cluster.
type identity struct {
	Cluster     string     `json:"cluster"` // UUID
	Name        string     `json:"name"`
	Address     netip.Addr `json:"address"` // by which others reach it, where Bind does not say
	Key         string     `json:"key"`
	Certificate string     `json:"certificate"`
	CA          string     `json:"ca"`
	GossipKey   []byte     `json:"gossip_key"`
	// Seeds are gossip addresses of other heads at the time of joining; later ones
	// are in the inventory.
	Seeds []string `json:"seeds"`
	// Init is the cluster that this head is to begin. It is proposed again after a
	// crash until it is in the inventory.
	Init *inventory.InitCluster `json:"init,omitempty"`
	// Witness tells that the cluster knows this head as one: what it does must not
	// change by a line of its configuration.
	Witness bool `json:"witness,omitempty"`
	// Generation is that of the cluster that this head belongs to: see
	// inventory.Cluster.
	Generation uint64 `json:"generation,omitempty"`
	// Sum is the SHA-256 of the rest as JSON, in hex. Identities of before it have
	// none.
	Sum string `json:"sum,omitempty"`
	// Adopt is set while this head makes itself the only one of the cluster.
	Adopt *adoption `json:"adopt,omitempty"`
}

// adoption is what a head does to go on alone.
type adoption struct {
	// Backup is the file of the state to begin with, in DataDir; "" goes on with
	// what the head has.
	Backup string `json:"backup,omitempty"`
	// Alone takes the votes of all others, before anything else is done: whatever
	// ends the agent in between, the next one begins with that again.
	Alone bool `json:"alone,omitempty"`
}

func identityPath(dir string) string { return filepath.Join(dir, "identity.json") }

var errBadIdentity = errors.New("this head's identity is damaged")

// loadIdentity gives nil where the head is no member yet.
func loadIdentity(dir string) (*identity, error) {
	b, err := os.ReadFile(identityPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read this head's identity: %w", err)
	}
	id := new(identity)
	if err := json.Unmarshal(b, id); err != nil {
		return nil, fmt.Errorf("%w: %s cannot be read (%w)", errBadIdentity, identityPath(dir), err)
	}
	return id, nil
}

// sum is what Sum should be.
func (id *identity) sum() string {
	plain := *id
	plain.Sum = ""
	b, err := json.Marshal(plain)
	if err != nil {
		panic(err) // plain structs: a bug no caller can handle
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// check tells of an identity that cannot be used, and of one whose raft store is
// gone: a head that has forgotten how it voted must not vote under its old name.
func (id *identity) check(dir string) error {
	if id.Sum != "" && id.Sum != id.sum() {
		return fmt.Errorf("%s: %w: its contents are not what was written", identityPath(dir), errBadIdentity)
	}
	if _, err := id.tls(); err != nil {
		return fmt.Errorf("%s: %w", identityPath(dir), err)
	}
	if len(id.GossipKey) != 32 || !id.Address.IsValid() || id.Cluster == "" {
		return fmt.Errorf("%s: %w: its address, its cluster or a key is missing", identityPath(dir), errBadIdentity)
	}
	store := filepath.Join(dir, "raft", "raft.db")
	if st, err := os.Stat(store); id.Init == nil && (id.Adopt == nil || id.Adopt.Alone) && (errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0) {
		return &consensus.DamagedError{Path: store, Reason: "it is missing or empty, and this head was a member"}
	}
	return nil
}

func (id *identity) save(dir string) error {
	summed := *id
	summed.Sum = id.sum()
	b, err := json.MarshalIndent(summed, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(identityPath(dir), b); err != nil {
		return fmt.Errorf("keep this head's identity: %w", err)
	}
	return nil
}

// writeFile replaces a file so that a crash leaves the old one or the new one.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is left there after the rename
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes what was renamed or removed in a directory last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// tls gives this head's certificate and the one authority it believes.
func (id *identity) tls() (*tls.Config, error) {
	cert, err := tls.X509KeyPair([]byte(id.Certificate+id.CA), []byte(id.Key))
	if err != nil {
		return nil, fmt.Errorf("%w: its certificate: %w", errBadIdentity, err)
	}
	ca, err := pki.ParseCert([]byte(id.CA))
	if err != nil {
		return nil, fmt.Errorf("%w: the cluster's certificate: %w", errBadIdentity, err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		RootCAs: pool, ClientCAs: pool,
	}, nil
}

// joinKey gives the private key with which this head asks to join. It is kept,
// so that a join whose answer was lost can be repeated with the same token.
func joinKey(dir string) (crypto.Signer, error) {
	path := filepath.Join(dir, "join.key")
	if b, err := os.ReadFile(path); err == nil {
		if key, err := pki.ParseKey(b); err == nil {
			return key, nil
		}
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	text, err := pki.KeyPEM(key)
	if err != nil {
		return nil, err
	}
	if err := writeFile(path, []byte(text)); err != nil {
		return nil, fmt.Errorf("keep this head's key: %w", err)
	}
	return key, nil
}
