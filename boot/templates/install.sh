#!/bin/bash
# What luna-install does on {{.Hostname}}. It is rendered from the plan to be
# read: luna-install works from the plan itself, and does more than this shows
# (it retries, verifies, reports to any head, and seeds while it unpacks).
{{- if .Masked}}
#
# MASKED: what only the node's present boot may see stands here as {{.Mask}}.
{{- end}}

export LUNA_NODE={{quote .Node}}
export LUNA_GROUP={{quote .Group}}
export LUNA_OSIMAGE={{quote .OSImage}}
export LUNA_VERSION={{quote .ImageVersion}}
heads=({{range $i, $h := .Heads}}{{if $i}} {{end}}{{$h}}{{end}})

# --- install.prescript
{{.PreScript}}
{{- with .BMC}}

# --- install.setupbmc
modprobe -a ipmi_devintf ipmi_si ipmi_msghandler
{{- if .Address.IsValid}}
ipmitool lan set {{.NetChannel}} ipsrc static
ipmitool lan set {{.NetChannel}} ipaddr {{.Address.Addr}}
ipmitool lan set {{.NetChannel}} netmask {{netmask .Address}}
ipmitool lan set {{.NetChannel}} defgw ipaddr {{if .Gateway.IsValid}}{{.Gateway}}{{else}}0.0.0.0{{end}}
{{- end}}
ipmitool user set name {{.UserID}} {{quote .User}}
ipmitool user set password {{.UserID}} {{quote .Password}}
ipmitool channel setaccess {{.MgmtChannel}} {{.UserID}} link=on ipmi=on callin=on privilege=4
ipmitool user enable {{.UserID}}
ipmitool mc reset cold
{{- end}}

# --- install.partscript
{{.PartScript}}

# --- install.download, install.unpack
# {{.Root.Size}} bytes, {{.Root.UnpackedSize}} unpacked, from the swarm; from one head after the other where no peer delivers
artifact={{.Root.SHA256}}
for head in "${heads[@]}"; do
    curl -fsS "{{if .HTTPS}}https{{else}}http{{end}}://$head/artifacts/$artifact" | tar --zstd --xattrs --xattrs-include='*' --acls --numeric-owner -xpf - -C /sysroot && break
done

# --- install.setnet
echo {{quote .Hostname}} >/sysroot/etc/hostname
{{- range .Interfaces}}
# {{.Name}}{{with .MAC}}, the NIC with {{.}}{{end}}:{{range .Addresses}} {{.}}{{else}} no address{{end}}{{if .Gateway.IsValid}} via {{.Gateway}}{{end}}{{with .Domain}}, in {{.}}{{end}}
{{- with .Params}}
{{comment .}}
{{- end}}
{{- end}}

# --- install.postscript
{{.PostScript}}

# --- install.success, then seed for {{.SeedSeconds}} s and hand over
