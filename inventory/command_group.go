package inventory

// AddGroup makes a group whose nodes boot from BOOTIF on the network.
type AddGroup struct {
	Name       string `json:"name"`
	OSImage    string `json:"osimage" doc:"name of an osimage"`
	Network    string `json:"network" doc:"name of a network"`
	BMCSetup   string `json:"bmcsetup,omitempty" doc:"name of a bmcsetup"`
	BMCNetwork string `json:"bmcnetwork,omitempty" doc:"a network in which to make an interface BMC too"`
}

func (c AddGroup) Validate() error { return CheckName("group", c.Name) }

// CloneGroup makes a group that has all that another one has but its nodes.
type CloneGroup struct {
	Name string `json:"name,omitempty"`
	To   string `json:"to" doc:"name of the new group"`
}

func (c CloneGroup) Validate() error { return CheckName("group", c.To) }

// ChangeGroup sets what is given, the interfaces in their order first. "" for
// BMCSetup, Domain, TorrentIF and the texts unsets.
type ChangeGroup struct {
	Name       string            `json:"name,omitempty"`
	Interfaces []InterfaceChange `json:"interfaces,omitempty" doc:"changes of interfaces, in this order"`
	OSImage    *string           `json:"osimage,omitempty" doc:"name of an osimage"`
	BMCSetup   *string           `json:"bmcsetup,omitempty" doc:"name of a bmcsetup; empty clears"`
	Domain     *string           `json:"domain,omitempty" doc:"the network that names the nodes' domain; empty clears"`
	TorrentIF  *string           `json:"torrent_if,omitempty" doc:"name of an interface; empty clears"`
	PreScript  *string           `json:"prescript,omitempty" doc:"bash, run before partitioning; empty unsets"`
	PartScript *string           `json:"partscript,omitempty" doc:"bash, mounts the root on /sysroot; empty unsets"`
	PostScript *string           `json:"postscript,omitempty" doc:"bash, run in the end; empty unsets"`
	Comment    *string           `json:"comment,omitempty" doc:"empty unsets"`
}

func (c ChangeGroup) Validate() error {
	for _, i := range c.Interfaces {
		if err := i.validate(c.Name); err != nil {
			return err
		}
	}
	return checkTexts("group", c.Name, c.PreScript, c.PartScript, c.PostScript, c.Comment)
}

// InterfaceAction is what an InterfaceChange does.
type InterfaceAction string

// The actions on an interface of a group.
const (
	InterfaceAdd    InterfaceAction = "add"
	InterfaceDelete InterfaceAction = "delete"
	InterfaceSetNet InterfaceAction = "setnet"
	InterfaceDelNet InterfaceAction = "delnet"
	InterfaceRename InterfaceAction = "rename"
	InterfaceParams InterfaceAction = "params"
)

// InterfaceChange does one thing to one interface of a group, and to the
// addresses of all its nodes.
type InterfaceChange struct {
	Interface string          `json:"interface"`
	Action    InterfaceAction `json:"action" enum:"add,delete,setnet,delnet,rename,params"`
	Network   string          `json:"network,omitempty" doc:"name of a network"`
	NewName   string          `json:"newname,omitempty" doc:"of a rename"`
	Params    string          `json:"params,omitempty" doc:"lines for the interface's configuration file"`
	// Implicit makes a missing interface before setnet; see Interface.Implicit.
	Implicit bool `json:"implicit,omitempty" doc:"make the interface before setnet if it is missing"`
}

func (c InterfaceChange) validate(group string) error {
	switch c.Action {
	case InterfaceAdd:
		return CheckName("interface", c.Interface)
	case InterfaceRename:
		return CheckName("interface", c.NewName)
	case InterfaceSetNet:
		if c.Network == "" {
			return invalid("group", group, "setnet needs a network")
		}
	case InterfaceParams:
		return checkTexts("group", group, &c.Params)
	case InterfaceDelete, InterfaceDelNet:
	default:
		return invalid("group", group, "'%s' is no action on an interface", c.Action)
	}
	return nil
}

// DeleteGroup removes a group that has no nodes.
type DeleteGroup struct {
	Name string `json:"name"`
}

func (c DeleteGroup) Validate() error { return nil }
