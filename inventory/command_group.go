package inventory

// AddGroup makes a group whose nodes boot from BOOTIF on the network.
type AddGroup struct {
	Name       string `json:"name"`
	OSImage    string `json:"osimage"`
	Network    string `json:"network"`
	BMCSetup   string `json:"bmcsetup,omitempty"`
	BMCNetwork string `json:"bmcnetwork,omitempty"` // makes an interface BMC in it too
}

func (c AddGroup) Validate() error { return CheckName("group", c.Name) }

// CloneGroup makes a group that has all that another one has but its nodes.
type CloneGroup struct {
	Name string `json:"name,omitempty"`
	To   string `json:"to"`
}

func (c CloneGroup) Validate() error { return CheckName("group", c.To) }

// ChangeGroup sets what is given, the interfaces in their order first. "" for
// BMCSetup, Domain, TorrentIF and the texts unsets.
type ChangeGroup struct {
	Name       string            `json:"name,omitempty"`
	Interfaces []InterfaceChange `json:"interfaces,omitempty"`
	OSImage    *string           `json:"osimage,omitempty"`
	BMCSetup   *string           `json:"bmcsetup,omitempty"`
	Domain     *string           `json:"domain,omitempty"`
	TorrentIF  *string           `json:"torrent_if,omitempty"`
	PreScript  *string           `json:"prescript,omitempty"`
	PartScript *string           `json:"partscript,omitempty"`
	PostScript *string           `json:"postscript,omitempty"`
	Comment    *string           `json:"comment,omitempty"`
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
	Network   string          `json:"network,omitempty"` // setnet, delnet
	NewName   string          `json:"newname,omitempty"` // rename
	Params    string          `json:"params,omitempty"`  // params
	// Implicit makes a missing interface before setnet; see Interface.Implicit.
	Implicit bool `json:"implicit,omitempty"`
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
