package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/pki"
)

// What a cluster has unless init says otherwise.
const (
	defaultPrefix      = "node"
	defaultDigits      = 3
	defaultUser        = "luna"
	defaultPath        = "/opt/luna"
	defaultReplicas    = 2
	defaultSeedSeconds = 10
)

// Init makes a cluster of this one head.
func (a *Agent) Init(ctx context.Context, r api.InitRequest) (api.InitReply, error) {
	a.becoming.Lock()
	defer a.becoming.Unlock()
	if m, err := a.self(); err == nil {
		if c, ok := m.machine.View().Cluster(); ok {
			return a.initAgain(ctx, m, c, r)
		}
		return api.InitReply{}, inventory.Errorf(inventory.KindUnavailable, "cluster", "general", "this head is a member of a cluster whose state it does not have yet: %s", m.quorum())
	}
	if a.cfg.Witness {
		return api.InitReply{}, inventory.Errorf(inventory.KindRefused, "head", a.cfg.Name, "head '%s' is to be a witness, and cannot be the only one: begin the cluster on another, and let it join", a.cfg.Name)
	}
	cluster, err := newCluster(r, a.cfg.HTTPPort)
	if err != nil {
		return api.InitReply{}, err
	}
	ca, err := pki.NewAuthority(cluster.UUID, time.Now())
	if err != nil {
		return api.InitReply{}, err
	}
	cluster.Secrets.CACert = ca.CertPEM()
	if cluster.Secrets.CAKey, err = ca.KeyPEM(); err != nil {
		return api.InitReply{}, err
	}
	id := &identity{
		Cluster: cluster.UUID, Name: a.cfg.Name, Address: firstAddress(r.FrontendAddress), CA: cluster.Secrets.CACert,
		GossipKey: cluster.Secrets.GossipKey, Init: &inventory.InitCluster{Cluster: cluster, Head: inventory.Head{Name: a.cfg.Name}},
	}
	if specific(a.cfg.Bind) {
		id.Address = a.cfg.Bind
	}
	if err := id.signBy(ca); err != nil {
		return api.InitReply{}, err
	}
	if err := id.Init.Validate(); err != nil {
		return api.InitReply{}, err
	}
	credential, err := ca.Credential("admin", time.Now())
	if err != nil {
		return api.InitReply{}, err
	}
	m, err := a.enter(id)
	if err != nil {
		return api.InitReply{}, err
	}
	if err := m.waitFor(ctx, func(inv *inventory.Inventory) bool { _, ok := inv.Cluster(); return ok }); err != nil {
		return api.InitReply{}, err
	}
	return api.InitReply{UUID: cluster.UUID, Head: a.cfg.Name, Credential: string(credential)}, nil
}

// initAgain makes a cluster on heads that are a mesh already, where the one
// before was deleted.
func (a *Agent) initAgain(ctx context.Context, m *member, old *inventory.Cluster, r api.InitRequest) (api.InitReply, error) {
	if !old.Deleted {
		return api.InitReply{}, inventory.Exists("cluster", "general")
	}
	c, err := newCluster(r, a.cfg.HTTPPort)
	if err != nil {
		return api.InitReply{}, err
	}
	res, err := m.propose(ctx, inventory.Asker{By: peerName(ctx), From: a.cfg.Name}, inventory.SetUpCluster{Cluster: c})
	if err == nil {
		err = res.Into(nil)
	}
	if err != nil {
		return api.InitReply{}, err
	}
	credential, err := a.Credential(ctx, "admin")
	return api.InitReply{UUID: old.UUID, Head: a.cfg.Name, Credential: string(credential)}, err
}

func newCluster(r api.InitRequest, httpPort int) (inventory.Cluster, error) {
	c := inventory.Cluster{
		UUID: hex.EncodeToString(random(8)), FrontendAddress: r.FrontendAddress, FrontendPort: httpPort,
		NodePrefix: cmp.Or(r.NodePrefix, defaultPrefix), NodeDigits: cmp.Or(r.NodeDigits, defaultDigits),
		User: cmp.Or(r.User, defaultUser), Path: cmp.Or(r.Path, defaultPath),
		Replicas: defaultReplicas, SeedSeconds: defaultSeedSeconds,
		Secrets: inventory.Secrets{GossipKey: random(32), BootKey: random(32)},
	}
	c.Services = inventory.DefaultServices()
	if r.User != "" {
		if _, err := user.Lookup(r.User); err != nil {
			return c, inventory.Errorf(inventory.KindInvalid, "cluster", "general", "No such user exists.\nError on creating the cluster: user '%s' is not known on this head", r.User)
		}
	}
	if r.Path == "" {
		if err := os.MkdirAll(c.Path, 0o755); err != nil {
			return c, fmt.Errorf("make the path of the cluster: %w", err)
		}
	} else if st, err := os.Stat(r.Path); err != nil || !st.IsDir() {
		return c, inventory.Errorf(inventory.KindInvalid, "cluster", "general", "'%s' is not a valid directory", r.Path)
	}
	return c, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // crypto/rand.Read never fails (Go 1.24)
	return b
}

// signBy makes the head's key and certificate.
func (id *identity) signBy(ca *pki.Authority) error {
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	if id.Key, err = pki.KeyPEM(key); err != nil {
		return err
	}
	_, csr, err := pki.Request(key, id.Name)
	if err != nil {
		return err
	}
	id.Certificate, err = ca.Sign(csr, id.Name, pki.Head, certAddresses(id.Address), time.Now())
	return err
}

// certAddresses are the addresses by which people may call a head.
func certAddresses(self netip.Addr) []netip.Addr {
	addrs := []netip.Addr{self}
	for _, p := range localAddresses(self) {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

// firstAddress gives this machine's address that is the frontend, or lies in
// its network, or simply the first.
func firstAddress(frontend netip.Addr) netip.Addr {
	var near, first netip.Addr
	for _, p := range localAddresses(frontend) {
		switch {
		case p.Addr() == frontend:
			return frontend
		case p.Contains(frontend) && !near.IsValid():
			near = p.Addr()
		case p.Addr().Is4() && !first.IsValid():
			first = p.Addr()
		}
	}
	if near.IsValid() {
		return near
	}
	return cmp.Or(first, frontend)
}

// enter opens what a member needs, keeps the identity, and lets Run take over.
func (a *Agent) enter(id *identity) (*member, error) {
	if err := a.setAside(); err != nil {
		return nil, err
	}
	m, err := newMember(a.cfg, id)
	if err != nil {
		return nil, inventory.Errorf(inventory.KindRefused, "head", a.cfg.Name, "%v", err)
	}
	if err := id.save(a.cfg.DataDir); err != nil {
		return nil, errors.Join(err, m.close())
	}
	a.become(m)
	return m, nil
}

// setAside puts the state of a cluster away that this head, which belongs to none, has not
// forgotten whole: it must not become that of another one. It may be all that is left of
// the first, so nothing takes its place.
func (a *Agent) setAside() error {
	state := filepath.Join(a.cfg.DataDir, "raft")
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	aside := state + ".before"
	for n := 2; exists(aside); n++ {
		aside = fmt.Sprintf("%s.before%d", state, n)
	}
	if err := os.Rename(state, aside); err != nil {
		return inventory.Errorf(inventory.KindRefused, "head", a.cfg.Name, "the state of a cluster that this head belongs to no more is in the way: %v", err)
	}
	a.log.Warn("the state of a cluster that this head belongs to no more is set aside", "as", aside)
	return syncDir(a.cfg.DataDir)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// waitFor waits until the state is as wanted.
func (m *member) waitFor(ctx context.Context, as func(*inventory.Inventory) bool) error {
	for {
		changed := m.machine.Changed()
		if as(m.machine.View()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return inventory.Errorf(inventory.KindUnavailable, "head", m.cfg.Name, "gave up waiting for this head to catch up: %s", m.quorum())
		case <-changed:
		}
	}
}

// Credential makes an admin credential.
func (a *Agent) Credential(_ context.Context, name string) ([]byte, error) {
	if err := inventory.CheckName("credential", name); err != nil {
		return nil, err
	}
	ca, err := a.authority()
	if err != nil {
		return nil, err
	}
	return ca.Credential(name, time.Now())
}

func (a *Agent) authority() (*pki.Authority, error) {
	c, ok := a.View().Cluster()
	if !ok {
		return nil, errNoMember()
	}
	return pki.LoadAuthority(c.Secrets.CACert, c.Secrets.CAKey)
}

// Invite makes a join token.
func (a *Agent) Invite(ctx context.Context, by inventory.Asker, r api.InviteRequest) (api.InviteReply, error) {
	ttl, err := tokenLife(r.TTL)
	if err != nil {
		return api.InviteReply{}, err
	}
	ca, err := a.authority()
	if err != nil {
		return api.InviteReply{}, err
	}
	t, err := pki.NewToken(pki.Fingerprint(ca.Cert))
	if err != nil {
		return api.InviteReply{}, err
	}
	now := time.Now().UTC()
	i := inventory.Invite{ID: t.ID, Hash: t.Hash(), Created: now, Expires: now.Add(ttl)}
	res, err := a.Propose(ctx, by, inventory.CreateInvite{Invite: i})
	if err == nil {
		err = res.Into(nil)
	}
	return api.InviteReply{Token: t.String(), Expires: i.Expires}, err
}

// Join makes this head a member of the mesh at the address, and returns when it
// has caught up with it.
func (a *Agent) Join(ctx context.Context, r api.JoinRequest) error {
	a.becoming.Lock()
	defer a.becoming.Unlock()
	refused := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "head", a.cfg.Name, format, args...)
	}
	if m, err := a.self(); err == nil {
		return m.isMember()
	}
	token, err := pki.ParseToken(r.Token)
	if err != nil {
		return inventory.Errorf(inventory.KindInvalid, "head", a.cfg.Name, "%v", err)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(r.Address, "https://"), "/") // as --server has it
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "7051")
	}
	client, local, err := meet(ctx, host, token)
	if err != nil {
		return refused("cannot join at %s: %v", host, err)
	}
	id, reply, err := a.ask(ctx, client, local, token)
	if err != nil {
		return err
	}
	m, err := a.enter(id)
	if err != nil {
		return err
	}
	return m.caughtUp(ctx, reply.Index)
}

// isMember refuses what only a head can do that belongs to no cluster.
func (m *member) isMember() error {
	err := m.outside()
	if err == nil {
		err = fmt.Errorf("this head is already a member, of cluster %s", m.id.Cluster)
	}
	return inventory.Errorf(inventory.KindRefused, "head", m.cfg.Name, "%v", err)
}

// meet connects to a member and makes sure, before anything secret is said,
// that it belongs to the cluster of the token. It gives the local address too.
func meet(ctx context.Context, host string, t pki.Token) (*api.Client, netip.Addr, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // replaced by the check below, against the token's fingerprint
		VerifyConnection: func(s tls.ConnectionState) error {
			return pki.Signed(s.PeerCertificates, t.Fingerprint)
		},
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: conf}
	c, err := d.DialContext(ctx, "tcp", host)
	if errors.Is(err, pki.ErrOtherCluster) {
		return nil, netip.Addr{}, fmt.Errorf("%w: that head is of another one, make a token there with `luna head invite`", pki.ErrOtherCluster)
	}
	if err != nil {
		return nil, netip.Addr{}, err
	}
	defer c.Close()
	local := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	return &api.Client{Base: "https://" + host, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}}, local, nil
}

// ask has the member admit this head. While it does, this head's ports are
// open, for the member tries to reach them.
func (a *Agent) ask(ctx context.Context, c *api.Client, local netip.Addr, t pki.Token) (*identity, api.AdmitReply, error) {
	key, err := joinKey(a.cfg.DataDir)
	if err != nil {
		return nil, api.AdmitReply{}, err
	}
	csr, _, err := pki.Request(key, a.cfg.Name)
	if err != nil {
		return nil, api.AdmitReply{}, err
	}
	keyText, err := pki.KeyPEM(key)
	if err != nil {
		return nil, api.AdmitReply{}, err
	}
	if specific(a.cfg.Bind) {
		local = a.cfg.Bind
	}
	ports, closePorts, err := a.openPorts()
	if err != nil {
		return nil, api.AdmitReply{}, inventory.Errorf(inventory.KindRefused, "head", a.cfg.Name, "%v", err)
	}
	defer closePorts()
	request := api.AdmitRequest{
		InviteID: t.ID, Secret: base64.StdEncoding.EncodeToString(t.Secret), Name: a.cfg.Name,
		Address: local, Addresses: localAddresses(local), Ports: ports,
		Version: a.cfg.Version, Protocol: api.ProtocolVersion, Time: time.Now().UTC(), CSR: csr,
		Format: inventory.FormatVersion, Witness: a.cfg.Witness,
	}
	r, err := c.Admit(ctx, request)
	if errors.Is(err, inventory.ErrInvalid) && strings.Contains(err.Error(), "unexpected property") {
		// A head of a release before format 2 refuses a request that says more than it
		// knows. It need not be told the format, for its mesh has the first.
		if request.Witness {
			return nil, r, inventory.Errorf(inventory.KindUnavailable, "head", a.cfg.Name, "%s runs a release of luna that does not know what a witness is: upgrade luna on all heads first", c.Base)
		}
		request.Format = 0
		r, err = c.Admit(ctx, request)
	}
	if err != nil {
		return nil, r, err
	}
	return &identity{
		Cluster: r.Cluster, Name: a.cfg.Name, Address: local, Key: keyText, Certificate: r.Certificate,
		CA: r.CA, GossipKey: r.GossipKey, Seeds: r.Gossip, Generation: r.Generation, Witness: a.cfg.Witness,
	}, r, nil
}

// openPorts listens where the member will, so that a port in use or behind a
// firewall is found before the join and not after.
func (a *Agent) openPorts() (api.Ports, func(), error) {
	var open []net.Listener
	closeAll := func() {
		for _, l := range open {
			l.Close()
		}
	}
	var p api.Ports
	for _, want := range []struct {
		key  string
		port int
		got  *int
	}{
		{"api-port", a.cfg.APIPort, &p.API},
		{"raft-port", a.cfg.RaftPort, &p.Raft},
		{"gossip-port", a.cfg.GossipPort, &p.Gossip},
		{"http-port", a.cfg.HTTPPort, &p.HTTP},
	} {
		l, err := listen(a.cfg.Bind, want.port, want.key)
		if err != nil {
			closeAll()
			return p, nil, err
		}
		open = append(open, l)
		*want.got = portOf(l)
	}
	return p, closeAll, nil
}

// caughtUp waits until this head has a vote, or no vote is left for it, and it has
// the state that it was admitted into.
func (m *member) caughtUp(ctx context.Context, index uint64) error {
	if err := m.peer.WaitApplied(ctx, index); err != nil {
		return inventory.Errorf(inventory.KindUnavailable, "head", m.cfg.Name, "this head is a member now, but has not caught up yet (%v): it goes on by itself, see `luna head list`", err)
	}
	for {
		servers, err := m.peer.Servers()
		if err != nil {
			return err
		}
		if m.hasPlace(servers) {
			return nil
		}
		select {
		case <-ctx.Done():
			return inventory.Errorf(inventory.KindUnavailable, "head", m.cfg.Name, "this head is a member and has caught up, but has no vote yet: it gets one by itself, see `luna head list`")
		case <-time.After(20 * time.Millisecond): // raft does not tell of a change of its configuration
		}
	}
}

// hasPlace tells whether this head votes, or waits for a vote beside as many voters
// as there may be.
func (m *member) hasPlace(servers []consensus.Server) bool {
	in, votes := false, 0
	for _, s := range servers {
		if s.Voter {
			votes++
		}
		if s.Name == m.cfg.Name {
			in = true
			if s.Voter {
				return true
			}
		}
	}
	return in && votes >= mostVoters
}

// maxSkew is how far a joining head's clock may be off: certificates and the times
// in logs are to mean the same on all heads. Nothing else goes by their clocks.
const maxSkew = time.Minute

// Admit checks a head that wants to join, and makes it a member.
func (a *Agent) Admit(ctx context.Context, r api.AdmitRequest) (api.AdmitReply, error) {
	m, err := a.self()
	if err != nil {
		return api.AdmitReply{}, err
	}
	refused := func(format string, args ...any) (api.AdmitReply, error) {
		return api.AdmitReply{}, inventory.Errorf(inventory.KindRefused, "head", r.Name, format, args...)
	}
	if r.Protocol != api.ProtocolVersion {
		return refused("head '%s' runs luna %s, which speaks version %d of the heads' language, and '%s' runs %s, version %d: install the same luna on both", r.Name, r.Version, r.Protocol, a.cfg.Name, a.cfg.Version, api.ProtocolVersion)
	}
	if have := m.machine.View().Format(); max(1, r.Format) < have {
		return refused("head '%s' runs luna %s, which understands format %d of the heads' log, and the mesh uses %d: install luna %s on it", r.Name, r.Version, max(1, r.Format), have, a.cfg.Version)
	}
	if err := m.goneFromRaft(r.Name); err != nil {
		return api.AdmitReply{}, err
	}
	if skew := time.Since(r.Time); skew > maxSkew || skew < -maxSkew {
		return refused("the clock of head '%s' says %s, that of '%s' %s: set them right (chronyc makestep, timedatectl) and try again", r.Name, r.Time.Format(time.RFC3339), a.cfg.Name, time.Now().UTC().Format(time.RFC3339))
	}
	csr, err := pki.ParseRequest(r.CSR)
	if err != nil {
		return refused("head '%s': %v", r.Name, err)
	}
	print, err := pki.KeyFingerprint(csr.PublicKey)
	if err != nil {
		return refused("head '%s': %v", r.Name, err)
	}
	secret, err := base64.StdEncoding.DecodeString(r.Secret)
	if err != nil {
		return refused("the token's secret is damaged")
	}
	if err := m.checkInvite(ctx, r, pki.HashSecret(secret)); err != nil {
		return api.AdmitReply{}, err
	}
	if err := reach(ctx, a.cfg.Name, r); err != nil {
		return api.AdmitReply{}, err
	}
	res, err := m.propose(ctx, m.byItself(), inventory.AdmitHead{
		Invite: r.InviteID, Secret: pki.HashSecret(secret), At: time.Now().UTC(),
		Head: inventory.Head{
			Name: r.Name, Address: r.Address, Addresses: r.Addresses, APIPort: r.Ports.API, RaftPort: r.Ports.Raft,
			GossipPort: r.Ports.Gossip, HTTPPort: r.Ports.HTTP, Key: print, Version: r.Version, Witness: r.Witness,
		},
	})
	if err == nil {
		err = res.Into(nil)
	}
	if err != nil {
		return api.AdmitReply{}, err
	}
	return a.welcome(m, r, csr)
}

// checkInvite spares an unwelcome caller's ports: without a token that exists,
// this head connects nowhere on anybody's word. The rest of the token's rules
// is with the state machine.
func (m *member) checkInvite(ctx context.Context, r api.AdmitRequest, hash string) error {
	i, ok := m.machine.View().Invite(r.InviteID)
	if !ok {
		err := m.catchUp(ctx) // the invite may be younger than this head's state
		if i, ok = m.machine.View().Invite(r.InviteID); !ok && err != nil {
			return inventory.Errorf(inventory.KindUnavailable, "head", r.Name, "head '%s' cannot tell whether the token is good, ask another one: %s", m.cfg.Name, m.undecided())
		}
	}
	if !ok || i.Hash != hash {
		return inventory.Errorf(inventory.KindDenied, "head", r.Name, "the token is unknown to this cluster: make one with `luna head invite`")
	}
	return nil
}

// reach tries the ports of a joining head.
func reach(ctx context.Context, self string, r api.AdmitRequest) error {
	for _, p := range []struct {
		name string
		port int
	}{{"api", r.Ports.API}, {"raft", r.Ports.Raft}, {"gossip", r.Ports.Gossip}, {"http", r.Ports.HTTP}} {
		d := net.Dialer{Timeout: 3 * time.Second}
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(r.Address.String(), strconv.Itoa(p.port)))
		if err != nil {
			return inventory.Errorf(inventory.KindRefused, "head", r.Name, "port %d/tcp (%s) of %s cannot be reached from head '%s' (%v): open it in the firewall of '%s', or set bind to the right address", p.port, p.name, r.Address, self, errors.Unwrap(err), r.Name)
		}
		c.Close()
	}
	return nil
}

func (a *Agent) welcome(m *member, r api.AdmitRequest, csr *x509.CertificateRequest) (api.AdmitReply, error) {
	ca, err := a.authority()
	if err != nil {
		return api.AdmitReply{}, err
	}
	addrs := []netip.Addr{r.Address}
	for _, p := range r.Addresses {
		addrs = append(addrs, p.Addr())
	}
	cert, err := ca.Sign(csr, r.Name, pki.Head, addrs, time.Now())
	if err != nil {
		return api.AdmitReply{}, err
	}
	m.log.Info("head admitted", "head", r.Name, "address", r.Address)
	c, _ := a.View().Cluster()
	return api.AdmitReply{
		Certificate: cert, CA: ca.CertPEM(), GossipKey: c.Secrets.GossipKey, Cluster: c.UUID,
		Gossip: append(m.seeds(), m.peer.GossipAddr().String()), Index: m.peer.AppliedIndex(), Generation: m.id.Generation,
	}, nil
}
