package fsm

import (
	"slices"

	"github.com/clustervision/luna/inventory"
)

func initCluster(tx *inventory.Tx, c inventory.InitCluster) error {
	if _, ok := tx.Cluster(); ok {
		return inventory.Exists("cluster", "general")
	}
	cluster, head := begun(c.Cluster), c.Head
	head.ID = tx.NewID()
	tx.Put(&cluster)
	tx.Put(&head)
	return nil
}

// begun gives the cluster with the services' defaults where none are given, and
// no empty text where none is meant.
func begun(c inventory.Cluster) inventory.Cluster {
	if c.Services == (inventory.Services{}) {
		c.Services = inventory.DefaultServices()
	}
	s := &c.Services
	for _, t := range []**string{&c.Comment, &s.TorrentPidfile, &s.LwebPidfile, &s.ClusterIPs, &s.NamedIncludeFile, &s.NamedZoneDir} {
		setText(t, *t)
	}
	return c
}

func setUpCluster(tx *inventory.Tx, c inventory.SetUpCluster) error {
	old, _ := tx.Cluster()
	if !old.Deleted {
		return inventory.Exists("cluster", "general")
	}
	n := begun(c.Cluster)
	n.UUID, n.Secrets, n.Generation, n.Deleted = old.UUID, old.Secrets, old.Generation, false
	tx.Put(&n)
	return nil
}

// deleteCluster empties the inventory. The heads, their secrets and the log
// stay: they are the mesh, not the cluster that an administrator made in it.
func deleteCluster(tx *inventory.Tx, c inventory.DeleteCluster) error {
	if left := objects(&tx.Inventory); len(left) > 0 && !c.Force {
		return inUse("cluster", "general", left)
	}
	var nodes []string
	for n := range tx.Nodes() {
		nodes = append(nodes, n.Name)
	}
	if err := deleteNodes(tx, inventory.DeleteNodes{Names: nodes}); err != nil {
		return err
	}
	wipe(tx, slices.Collect(tx.OtherDevs()))
	wipe(tx, slices.Collect(tx.Switches()))
	wipe(tx, slices.Collect(tx.Groups()))
	wipe(tx, slices.Collect(tx.BMCSetups()))
	wipe(tx, slices.Collect(tx.Versions()))
	wipe(tx, slices.Collect(tx.OSImages()))
	wipe(tx, slices.Collect(tx.Leases()))
	wipe(tx, slices.Collect(tx.Networks()))
	old, _ := tx.Cluster()
	n := *old
	n.Deleted = true
	tx.Put(&n)
	return nil
}

// wipe deletes the objects with the addresses that they have.
func wipe[T any](tx *inventory.Tx, all []*T) {
	for _, o := range all {
		releaseAll(tx, o)
		tx.Delete(o)
	}
}

// objects lists everything in the cluster as "[type/name]".
func objects(inv *inventory.Inventory) []string {
	var all []string
	for o := range inv.Networks() {
		all = append(all, "[network/"+o.Name+"]")
	}
	for o := range inv.OSImages() {
		all = append(all, "[osimage/"+o.Name+"]")
	}
	for o := range inv.BMCSetups() {
		all = append(all, "[bmcsetup/"+o.Name+"]")
	}
	for o := range inv.Groups() {
		all = append(all, "[group/"+o.Name+"]")
	}
	for o := range inv.Switches() {
		all = append(all, "[switch/"+o.Name+"]")
	}
	for o := range inv.OtherDevs() {
		all = append(all, "[otherdev/"+o.Name+"]")
	}
	for o := range inv.Nodes() {
		all = append(all, "[node/"+o.Name+"]")
	}
	return all
}

func changeCluster(tx *inventory.Tx, c inventory.ChangeCluster) error {
	if err := setCluster(tx, c); err != nil {
		return err
	}
	if c.FrontendAddress == nil {
		return nil
	}
	refuse := func(by string) error {
		return inventory.Errorf(inventory.KindRefused, "cluster", "general", "the frontend address cannot be %s: it is taken by %s", *c.FrontendAddress, by)
	}
	if o, ok := tx.Owner(*c.FrontendAddress); ok && o.Type == inventory.OwnerNode {
		return refuse(ownerName(&tx.Inventory, o))
	}
	if n, ok := tx.NetworkOf(*c.FrontendAddress); ok && n.Range.Contains(*c.FrontendAddress) {
		return refuse("the DHCP range of network '" + n.Name + "'")
	}
	return nil
}

// setCluster does what changeCluster does, but does not ask who has the
// frontend address.
func setCluster(tx *inventory.Tx, c inventory.ChangeCluster) error {
	old, _ := tx.Cluster()
	n := *old
	set(&n.NodePrefix, c.NodePrefix)
	set(&n.NodeDigits, c.NodeDigits)
	set(&n.User, c.User)
	set(&n.Path, c.Path)
	set(&n.FrontendAddress, c.FrontendAddress)
	set(&n.FrontendPort, c.FrontendPort)
	set(&n.FrontendHTTPS, c.FrontendHTTPS)
	set(&n.Replicas, c.Replicas)
	set(&n.SeedSeconds, c.SeedSeconds)
	setText(&n.Comment, c.Comment)
	s := &n.Services
	set(&s.ServerPort, c.ServerPort)
	set(&s.TrackerInterval, c.TrackerInterval)
	set(&s.TrackerMinInterval, c.TrackerMinInterval)
	set(&s.TrackerMaxPeers, c.TrackerMaxPeers)
	set(&s.TorrentListenPortMin, c.TorrentListenPortMin)
	set(&s.TorrentListenPortMax, c.TorrentListenPortMax)
	setText(&s.TorrentPidfile, c.TorrentPidfile)
	setText(&s.LwebPidfile, c.LwebPidfile)
	set(&s.LwebNumProc, c.LwebNumProc)
	setText(&s.ClusterIPs, c.ClusterIPs)
	setText(&s.NamedIncludeFile, c.NamedIncludeFile)
	setText(&s.NamedZoneDir, c.NamedZoneDir)
	if s.TorrentListenPortMin > s.TorrentListenPortMax {
		return inventory.Errorf(inventory.KindInvalid, "cluster", "general", "torrent_listen_port_min %d is above torrent_listen_port_max %d", s.TorrentListenPortMin, s.TorrentListenPortMax)
	}
	tx.Put(&n)
	if c.Replicas != nil {
		countHolders(tx)
	}
	return nil
}

func rename(tx *inventory.Tx, c inventory.Rename) error {
	o := tx.Named(c.Object, c.Name)
	switch {
	case o == nil:
		return inventory.NotFound(c.Object, c.Name)
	case tx.Named(c.Object, c.NewName) != nil:
		return inventory.Errorf(inventory.KindRefused, c.Object, c.Name, "Object '%s' exists already", c.NewName)
	}
	tx.Put(inventory.Renamed(o, c.NewName))
	return nil
}
