package boot

import (
	"encoding/json"
	"net/netip"
)

// PlanVersion is the format of Plan; luna-install refuses a higher one.
const PlanVersion = 1

// Plan is all that luna-install needs to make a node: what to run, what to
// fetch, from whom, and what to write. A head renders it for one node, who
// fetches it with the boot token of its kernel command line.
type Plan struct {
	Version      int             `json:"version"`
	Node         string          `json:"node"`
	Hostname     string          `json:"hostname"` // with the domain, if the group has one
	Group        string          `json:"group"`
	OSImage      string          `json:"osimage"`
	ImageVersion string          `json:"image_version"`
	KernVer      string          `json:"kernver,omitempty"` // the kernel that the version boots, as uname -r has it
	Root         PlanArtifact    `json:"root"`
	Heads        []string        `json:"heads"`           // "address:port" of every head, in this node's order, the live ones first
	HTTPS        bool            `json:"https,omitempty"` // the heads are asked over TLS
	Interfaces   []PlanInterface `json:"interfaces"`
	BMC          *PlanBMC        `json:"bmc,omitempty"` // nil: the node's BMC is left as it is
	PreScript    string          `json:"prescript"`
	PartScript   string          `json:"partscript"`
	PostScript   string          `json:"postscript"`
	SeedSeconds  int             `json:"seed_seconds"` // how long to go on seeding once the tree is unpacked
}

// PlanArtifact is the root file system to fetch. Each head offers it under
// http://HEAD/artifacts/SHA256 and tracks its swarm at http://HEAD/announce
// (https where the plan says so).
type PlanArtifact struct {
	SHA256       string          `json:"sha256"`        // hex
	Size         int64           `json:"size"`          // bytes
	UnpackedSize int64           `json:"unpacked_size"` // bytes
	Descriptor   json.RawMessage `json:"descriptor"`    // a swarm.Descriptor
}

// PlanInterface is one interface to be configured in the installed system.
type PlanInterface struct {
	Name      string         `json:"name"`          // "BOOTIF" stands for the NIC with the MAC
	MAC       string         `json:"mac,omitempty"` // only on BOOTIF
	Addresses []netip.Prefix `json:"addresses"`
	Gateway   netip.Addr     `json:"gateway,omitzero"`
	DNS       []netip.Addr   `json:"dns,omitempty"`
	Domain    string         `json:"domain,omitempty"` // the network's name
	Params    string         `json:"params,omitempty"` // free lines of the administrator, for the interface's file
}

// PlanBMC is how the node sets up its own BMC, from inside.
type PlanBMC struct {
	NetChannel  int          `json:"netchannel"`       // the channel whose address is set
	MgmtChannel int          `json:"mgmtchannel"`      // the channel on which the user may log in
	UserID      int          `json:"userid"`           // the user's number in the BMC
	User        string       `json:"user"`             // at most 16 bytes
	Password    string       `json:"password"`         // at most 20 bytes
	Address     netip.Prefix `json:"address,omitzero"` // IPv4; zero if the node has no BMC interface: the BMC's own is left
	Gateway     netip.Addr   `json:"gateway,omitzero"` // IPv4; zero: none
}

// Report is what a node tells any live head at each stage, and every few
// seconds while it downloads.
type Report struct {
	Stage   string  `json:"stage"`             // "install.download", ... as in 1.2
	Percent float64 `json:"percent,omitempty"` // 0..100 of the download
	Version string  `json:"version,omitempty"` // the image version it installs
	Failed  bool    `json:"failed,omitempty"`  // the stage failed and will be tried again; StageSetupBMC alone is passed over
	Message string  `json:"message,omitempty"` // the last lines of a failed stage

	// Heads store reports at their own pace, and one that slept may do so much later:
	// reports of one Run of the installer, a random name, are ordered by Number. A
	// report without a Run is a head's own, or an image's of Luna 1.2.
	Run    string `json:"run,omitempty"`
	Number int    `json:"number,omitempty"` // from 1 on
}

// The stages, in order, under the names of 1.2.
const (
	StageRequest    = "install.request"
	StagePreScript  = "install.prescript"
	StageSetupBMC   = "install.setupbmc" // only where the plan has a BMC
	StagePartScript = "install.partscript"
	StageDownload   = "install.download"
	StageUnpack     = "install.unpack"
	StageSetNet     = "install.setnet"
	StagePostScript = "install.postscript"
	StageSuccess    = "install.success"
)
