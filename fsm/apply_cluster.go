package fsm

import "github.com/clustervision/luna/inventory"

func initCluster(tx *inventory.Tx, c inventory.InitCluster) error {
	if _, ok := tx.Cluster(); ok {
		return inventory.Exists("cluster", "general")
	}
	cluster, head := c.Cluster, c.Head
	head.ID = tx.NewID()
	tx.Put(&cluster)
	tx.Put(&head)
	return nil
}

func changeCluster(tx *inventory.Tx, c inventory.ChangeCluster) error {
	old, _ := tx.Cluster()
	n := *old
	set(&n.NodePrefix, c.NodePrefix)
	set(&n.NodeDigits, c.NodeDigits)
	set(&n.User, c.User)
	set(&n.Path, c.Path)
	set(&n.FrontendAddress, c.FrontendAddress)
	set(&n.FrontendPort, c.FrontendPort)
	set(&n.Replicas, c.Replicas)
	set(&n.SeedSeconds, c.SeedSeconds)
	setText(&n.Comment, c.Comment)
	tx.Put(&n)
	return nil
}

func rename(tx *inventory.Tx, c inventory.Rename) error {
	var o any
	var taken bool
	switch c.Object {
	case "network":
		if old, ok := tx.Network(c.Name); ok {
			n := *old
			n.Name, o = c.NewName, &n
		}
		_, taken = tx.Network(c.NewName)
	case "osimage":
		if old, ok := tx.OSImage(c.Name); ok {
			n := *old
			n.Name, o = c.NewName, &n
		}
		_, taken = tx.OSImage(c.NewName)
	case "group":
		if old, ok := tx.Group(c.Name); ok {
			n := *old
			n.Name, o = c.NewName, &n
		}
		_, taken = tx.Group(c.NewName)
	case "node":
		if old, ok := tx.Node(c.Name); ok {
			n := *old
			n.Name, o = c.NewName, &n
		}
		_, taken = tx.Node(c.NewName)
	default:
		return inventory.Errorf(inventory.KindInvalid, c.Object, c.Name, "a %s cannot be renamed", c.Object)
	}
	if o == nil {
		return inventory.NotFound(c.Object, c.Name)
	}
	if taken {
		return inventory.Errorf(inventory.KindRefused, c.Object, c.Name, "Object '%s' exists already", c.NewName)
	}
	tx.Put(o)
	return nil
}
