package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/pki"
)

// backupHeader is the first line of a backup; the rest is a snapshot of the
// inventory, compressed by zstd.
type backupHeader struct {
	Format  string    `json:"format"`
	Version int       `json:"v"`
	Cluster string    `json:"cluster"` // UUID
	Head    string    `json:"head"`    // that made it
	Release string    `json:"release"` // of its luna
	Index   uint64    `json:"index"`   // of the log
	Taken   time.Time `json:"taken"`   // by the head's clock
	SHA256  string    `json:"sha256"`  // of the rest, hex
}

const (
	backupFormat  = "luna-backup"
	backupVersion = 1
)

// Backup gives the whole state but for the images, as it is on a majority of the
// heads. It is refused where that cannot be known.
func (a *Agent) Backup(ctx context.Context) ([]byte, error) {
	m, err := a.self()
	if err != nil {
		return nil, err
	}
	if err := a.Fresh(ctx); err != nil {
		return nil, inventory.Errorf(inventory.KindUnavailable, "cluster", "general", "no backup that is sure to be whole can be made: %v", err)
	}
	inv := m.machine.View()
	c, ok := inv.Cluster()
	if !ok {
		return nil, inventory.NotFound("cluster", "general")
	}
	var content bytes.Buffer
	z, err := zstd.NewWriter(&content)
	if err != nil {
		return nil, err
	}
	if _, err := inv.WriteTo(z); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content.Bytes())
	header, err := json.Marshal(backupHeader{
		Format: backupFormat, Version: backupVersion, Cluster: c.UUID, Head: a.cfg.Name, Release: a.cfg.Version,
		Index: inv.Index, Taken: time.Now().UTC(), SHA256: hex.EncodeToString(sum[:]),
	})
	if err != nil {
		return nil, err
	}
	return append(append(header, '\n'), content.Bytes()...), nil
}

// readBackup takes a backup apart and reads all of it.
func readBackup(backup []byte) (backupHeader, []byte, *inventory.Inventory, error) {
	var h backupHeader
	line, content, found := bytes.Cut(backup, []byte("\n"))
	if !found || json.Unmarshal(line, &h) != nil || h.Format != backupFormat {
		return h, nil, nil, fmt.Errorf("this is no backup of luna")
	}
	if h.Version > backupVersion {
		return h, nil, nil, fmt.Errorf("the backup was made by luna %s in a later form (%d) than this release reads (%d)", h.Release, h.Version, backupVersion)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != h.SHA256 {
		return h, nil, nil, fmt.Errorf("the backup is damaged: it is not what head '%s' wrote at %s", h.Head, h.Taken.Format(time.RFC3339))
	}
	z, err := zstd.NewReader(bytes.NewReader(content))
	if err != nil {
		return h, nil, nil, err
	}
	defer z.Close()
	snapshot, err := io.ReadAll(bufio.NewReader(z))
	if err != nil {
		return h, nil, nil, fmt.Errorf("the backup is damaged: %w", err)
	}
	inv, err := inventory.Read(bytes.NewReader(snapshot))
	if err == nil {
		err = fsm.Check(inv)
	}
	if err != nil {
		return h, nil, nil, fmt.Errorf("the backup holds no inventory that this release can take: %w", err)
	}
	return h, snapshot, inv, nil
}

// restoreFile is where a backup lies until it is the state.
const restoreFile = "restore.snap"

// Restore begins a cluster on this head with what a backup holds. It is the cluster
// of the backup, with its authority and its secrets, one generation later.
func (a *Agent) Restore(ctx context.Context, backup []byte) (api.RestoreReply, error) {
	a.becoming.Lock()
	defer a.becoming.Unlock()
	refused := func(format string, args ...any) (api.RestoreReply, error) {
		return api.RestoreReply{}, inventory.Errorf(inventory.KindRefused, "cluster", "general", format, args...)
	}
	switch m, err := a.self(); {
	case err != nil:
	case m.outside() == nil && m.onlyHead():
		return refused("this head is already a member, the only one of cluster %s: to make of it what the backup says, stop its agent, empty %s but for artifacts, start it, and restore", m.id.Cluster, a.cfg.DataDir)
	default:
		return refused("%v: restore on a fresh one, or `luna leave` first", m.isMember())
	}
	if a.cfg.Witness {
		return refused("head '%s' is to be a witness, and cannot be the only one: restore on another, and let it join", a.cfg.Name)
	}
	header, snapshot, inv, err := readBackup(backup)
	if err != nil {
		return api.RestoreReply{}, inventory.Errorf(inventory.KindInvalid, "cluster", "general", "%v", err)
	}
	c, ok := inv.Cluster()
	if !ok {
		return refused("the backup holds no cluster")
	}
	ca, err := pki.LoadAuthority(c.Secrets.CACert, c.Secrets.CAKey)
	if err != nil {
		return refused("the backup's authority cannot be used: %v", err)
	}
	id := &identity{
		Cluster: c.UUID, Name: a.cfg.Name, Address: a.restoreAddress(inv, c), CA: c.Secrets.CACert,
		GossipKey: c.Secrets.GossipKey, Generation: c.Generation + 1, Adopt: &adoption{Backup: restoreFile},
	}
	if err := id.signBy(ca); err != nil {
		return api.RestoreReply{}, err
	}
	if err := writeFile(filepath.Join(a.cfg.DataDir, restoreFile), snapshot); err != nil {
		return api.RestoreReply{}, fmt.Errorf("keep the backup: %w", err)
	}
	m, err := a.enter(id)
	if err != nil {
		return api.RestoreReply{}, err
	}
	err = m.waitFor(ctx, func(inv *inventory.Inventory) bool {
		c, ok := inv.Cluster()
		return ok && c.Generation == id.Generation
	})
	if err != nil {
		return api.RestoreReply{}, err
	}
	credential, err := ca.Credential("admin", time.Now())
	reply := api.RestoreReply{
		UUID: c.UUID, Head: a.cfg.Name, Taken: header.Taken, Missing: []string{}, Credential: string(credential),
		Nodes: nodesOf(inv).Total,
	}
	for o := range m.machine.View().OSImages() {
		if !m.hasVersionOf(o) {
			reply.Missing = append(reply.Missing, o.Name)
		}
	}
	return reply, err
}

// hasVersionOf tells whether all artifacts of a version of the osimage are in this
// head's store, so that nodes can boot it soon.
func (m *member) hasVersionOf(o *inventory.OSImage) bool {
	for v := range m.machine.View().Versions() {
		lacks := func(a inventory.Artifact) bool { return !m.store.Has(a.SHA256) }
		if v.Image == o.ID && !slices.ContainsFunc(artifacts(v), lacks) {
			return true
		}
	}
	return false
}

// restoreAddress is the address by which others will reach this head.
func (a *Agent) restoreAddress(inv *inventory.Inventory, c *inventory.Cluster) netip.Addr {
	if specific(a.cfg.Bind) {
		return a.cfg.Bind
	}
	if h, ok := inv.Head(a.cfg.Name); ok {
		for _, p := range localAddresses(h.Address) {
			if p.Addr() == h.Address {
				return h.Address
			}
		}
	}
	return firstAddress(c.FrontendAddress)
}

// recoverPatience is how long the heads get to show that they can decide, before this
// one goes on without the others: longer than an election, and than a head that was just
// started needs to hear of the one that leads.
const recoverPatience = 4 * time.Second

// Recover goes on with this head alone, where the others are lost for good.
func (a *Agent) Recover(ctx context.Context, by inventory.Asker) error {
	a.becoming.Lock()
	defer a.becoming.Unlock()
	m, err := a.self()
	if err != nil {
		return err
	}
	if err := m.mayRecover(ctx); err != nil {
		return err
	}
	c, ok := m.machine.View().Cluster()
	if !ok {
		return inventory.NotFound("cluster", "general")
	}
	m.log.Warn("this head goes on alone, as it was told to", "by", by.By, "from", by.From, "index", m.peer.AppliedIndex())
	done := make(chan error, 1)
	ends := m.end(func() (*member, error) {
		next, err := a.recovered(m, c.Generation+1)
		done <- err
		if next == nil {
			return nil, err // the agent ends; the next one goes on from there
		}
		return next, nil //nolint:nilerr // it is told to the one who asked
	})
	if !ends {
		return inventory.Errorf(inventory.KindUnavailable, "head", m.cfg.Name, "this head is about to leave the cluster")
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return inventory.Errorf(inventory.KindInternal, "cluster", "general", "recover: %v", err)
	}
	next, err := a.awaitSelf(ctx)
	if err != nil {
		return err
	}
	return next.waitFor(ctx, func(inv *inventory.Inventory) bool {
		c, ok := inv.Cluster()
		return ok && c.Generation == next.id.Generation
	})
}

// mayRecover refuses what would make a second cluster of one that can still decide,
// and what cannot succeed.
func (m *member) mayRecover(ctx context.Context) error {
	refused := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "cluster", "general", format, args...)
	}
	if err := m.outside(); err != nil {
		return refused("%v", err)
	}
	if m.cfg.Witness {
		return refused("head '%s' is a witness, and cannot be the only one: recover on another", m.cfg.Name)
	}
	trying, cancel := context.WithTimeout(ctx, recoverPatience)
	defer cancel()
	for ok := true; ok; ok = pause(trying, 200*time.Millisecond) {
		if _, err := m.readIndex(trying); err == nil {
			return refused("the heads can decide: nothing needs to be recovered; `luna head remove` takes out a head that is lost")
		}
	}
	v := m.votes()
	switch disk := m.peer.DiskError(); {
	case ctx.Err() != nil:
		return inventory.Errorf(inventory.KindUnavailable, "head", m.cfg.Name, "nothing was done: %v", context.Cause(ctx))
	case disk != nil:
		return refused("head '%s' cannot keep what it would decide alone: %v", m.cfg.Name, disk)
	case !v.tooFew():
		return refused("a majority of the voters is there (%s), and may yet agree: stop the agents of those that are to be lost, or mend the network between them", inventory.CompressHostlist(v.there))
	}
	return nil
}

// recovered gives this head as the only voter, one generation later. Where that cannot
// begin it is what it was; where it cannot be finished it is nobody, and begins again
// where it was with the next start of the agent.
func (a *Agent) recovered(old *member, generation uint64) (*member, error) {
	id := *old.id
	id.Generation, id.Init, id.Adopt = generation, nil, &adoption{Alone: true}
	if failure := id.save(a.cfg.DataDir); failure != nil {
		id = *old.id
		if old.begun.Load() {
			id.Init, id.Adopt = nil, nil // what it was told to begin it has, and must not begin again
		}
		was, err := newMember(a.cfg, &id)
		return was, errors.Join(failure, err)
	}
	return newMember(a.cfg, &id)
}

// awaitSelf waits until this head is a member.
func (a *Agent) awaitSelf(ctx context.Context) (*member, error) {
	for {
		a.mu.Lock()
		arrived := a.arrived
		a.mu.Unlock()
		if m, err := a.self(); err == nil {
			return m, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// adopt makes this head the only one of its cluster, with the state of a backup
// or with its own, and tells whether that is done before ctx ends.
func (m *member) adopt(ctx context.Context) bool {
	done := func() bool {
		c, ok := m.machine.View().Cluster()
		return ok && c.Generation == m.id.Generation
	}
	path := ""
	if m.id.Adopt.Backup != "" {
		path = filepath.Join(m.cfg.DataDir, m.id.Adopt.Backup)
		if err := m.load(ctx, path, done); err != nil {
			m.log.Error("the backup is not restored", "err", err)
			m.warn.set("restore", err)
			<-ctx.Done()
			return false
		}
	}
	c := inventory.AdoptCluster{Head: m.describe(), Forget: path != ""}
	c.Head.Joined = time.Now().UTC()
	if ctx.Err() != nil || !m.insist(ctx, c, done) {
		return false
	}
	m.log.Info("this head is the only one of the cluster", "generation", m.id.Generation)
	return true
}

// load makes the snapshot in a file the state, unless that was done before the agent
// ended: what was decided since must stay.
func (m *member) load(ctx context.Context, path string, done func() bool) error {
	if err := m.bootstrap(ctx); err != nil {
		return err
	}
	for {
		leader := m.peer.LeaderChanged()
		if m.peer.IsLeader() && m.catchUp(ctx) == nil {
			if done() {
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("read the backup: %w", err)
			}
			// A command that comes between is lost; nobody has been told yet that there
			// is a cluster.
			err = m.peer.Restore(ctx, bytes.NewReader(b), int64(len(b)))
			if err == nil {
				return nil
			}
			m.log.Info("the backup is not restored yet", "err", err) // raft may not be ready to
		}
		select {
		case <-leader:
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}
