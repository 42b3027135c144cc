package inventory

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// InitCluster makes the cluster and its first head.
type InitCluster struct {
	Cluster Cluster `json:"cluster"`
	Head    Head    `json:"head"`
}

func (c InitCluster) Validate() error {
	if err := CheckName("head", c.Head.Name); err != nil {
		return err
	}
	if !c.Cluster.FrontendAddress.IsValid() {
		return invalid("cluster", "general", "a frontend address is needed: --frontend_address")
	}
	if c.Cluster.Secrets.CAKey == "" || len(c.Cluster.Secrets.GossipKey) != 32 || len(c.Cluster.Secrets.BootKey) != 32 {
		return invalid("cluster", "general", "the cluster's secrets are incomplete")
	}
	return checkNaming(c.Cluster.NodePrefix, c.Cluster.NodeDigits)
}

// SetUpCluster makes the cluster anew on the heads that there are, after
// DeleteCluster. Of Cluster, the secrets and the UUID stay as they were.
type SetUpCluster struct {
	Cluster Cluster `json:"cluster"`
}

func (c SetUpCluster) Validate() error {
	if !c.Cluster.FrontendAddress.IsValid() {
		return invalid("cluster", "general", "a frontend address is needed: --frontend_address")
	}
	return checkNaming(c.Cluster.NodePrefix, c.Cluster.NodeDigits)
}

// DeleteCluster deletes every object, and the cluster, if nothing is left in it
// or Force is set. The heads stay a mesh.
type DeleteCluster struct {
	Force bool `json:"force,omitempty"`
}

func (c DeleteCluster) Validate() error { return nil }

// ChangeCluster sets what is given. A pointer to "" unsets a text that may be
// unset.
type ChangeCluster struct {
	NodePrefix           *string     `json:"nodeprefix,omitempty" doc:"how automatic names of nodes begin"`
	NodeDigits           *int        `json:"nodedigits,omitempty" doc:"how many digits they have, 1 to 9"`
	User                 *string     `json:"user,omitempty" doc:"owner of the path"`
	Path                 *string     `json:"path,omitempty" doc:"the cluster's directory on the heads"`
	FrontendAddress      *netip.Addr `json:"frontend_address,omitempty" doc:"the address administrators call the site by"`
	FrontendPort         *int        `json:"frontend_port,omitempty" doc:"TCP port on which heads serve nodes"`
	FrontendHTTPS        *bool       `json:"frontend_https,omitempty" doc:"URLs for nodes begin with https"`
	Replicas             *int        `json:"replicas,omitempty" doc:"heads that must hold an image version before nodes boot it"`
	SeedSeconds          *int        `json:"seed_seconds,omitempty" doc:"how long a node goes on seeding"`
	ServerPort           *int        `json:"server_port,omitempty"`
	TrackerInterval      *int        `json:"tracker_interval,omitempty" doc:"seconds"`
	TrackerMinInterval   *int        `json:"tracker_min_interval,omitempty" doc:"seconds"`
	TrackerMaxPeers      *int        `json:"tracker_maxpeers,omitempty" doc:"most peers in one answer"`
	TorrentListenPortMin *int        `json:"torrent_listen_port_min,omitempty"`
	TorrentListenPortMax *int        `json:"torrent_listen_port_max,omitempty"`
	TorrentPidfile       *string     `json:"torrent_pidfile,omitempty"`
	LwebPidfile          *string     `json:"lweb_pidfile,omitempty"`
	LwebNumProc          *int        `json:"lweb_num_proc,omitempty"`
	ClusterIPs           *string     `json:"cluster_ips,omitempty" doc:"comma separated; empty unsets"`
	NamedIncludeFile     *string     `json:"named_include_file,omitempty"`
	NamedZoneDir         *string     `json:"named_zone_dir,omitempty"`
	Comment              *string     `json:"comment,omitempty" doc:"empty unsets"`
}

// numbers are the settings that are numbers, with their bounds.
func (c ChangeCluster) numbers() []struct {
	name     string
	value    *int
	min, max int
} {
	const day = 86400
	return []struct {
		name     string
		value    *int
		min, max int
	}{
		{"nodedigits", c.NodeDigits, 1, 9},
		{"frontend_port", c.FrontendPort, 1, 65535},
		{"replicas", c.Replicas, 1, 99},
		{"seed_seconds", c.SeedSeconds, 0, 3600},
		{"server_port", c.ServerPort, 1, 65535},
		{"tracker_interval", c.TrackerInterval, 1, day},
		{"tracker_min_interval", c.TrackerMinInterval, 1, day},
		{"tracker_maxpeers", c.TrackerMaxPeers, 1, 10000},
		{"torrent_listen_port_min", c.TorrentListenPortMin, 1, 65535},
		{"torrent_listen_port_max", c.TorrentListenPortMax, 1, 65535},
		{"lweb_num_proc", c.LwebNumProc, 0, 1024},
	}
}

func (c ChangeCluster) Validate() error {
	if c.NodePrefix != nil {
		if err := checkNaming(*c.NodePrefix, 1); err != nil {
			return err
		}
	}
	for _, n := range c.numbers() {
		if n.value != nil && (*n.value < n.min || *n.value > n.max) {
			return invalid("cluster", "general", "%s should be in the range [%d..%d], not %d", n.name, n.min, n.max, *n.value)
		}
	}
	if c.FrontendAddress != nil && !c.FrontendAddress.IsValid() {
		return invalid("cluster", "general", "the frontend address must be an IP address")
	}
	if c.Path != nil && !filepath.IsAbs(*c.Path) {
		return invalid("cluster", "general", "the path must be absolute, not '%s'", *c.Path)
	}
	if c.ClusterIPs != nil && *c.ClusterIPs != "" {
		for _, ip := range strings.Split(*c.ClusterIPs, ",") {
			if a, err := netip.ParseAddr(strings.TrimSpace(ip)); err != nil || !a.Is4() {
				return invalid("cluster", "general", "'%s' in cluster_ips is no IPv4 address", ip)
			}
		}
	}
	return checkTexts("cluster", "general", c.Comment)
}

// Rename gives an object a new name; nothing that refers to it breaks.
type Rename struct {
	Object  string `json:"object" enum:"network,osimage,bmcsetup,group,node,switch,otherdev"`
	Name    string `json:"name"`
	NewName string `json:"newname" doc:"a name that no object of the type has"`
}

func (c Rename) Validate() error {
	if !slices.Contains([]string{tNetwork, tOSImage, tBMCSetup, tGroup, tSwitch, tOtherDev, tNode}, c.Object) {
		return invalid(c.Object, c.Name, "a %s cannot be renamed", c.Object)
	}
	return CheckName(c.Object, c.NewName)
}
