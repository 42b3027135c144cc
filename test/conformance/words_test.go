package conformance

// wordChecks are those whose words, or rows, have to be just so.
var wordChecks = []check{
	{"05 the words for a user that is not there", bare, func(d *desk) {
		d.fails(1, "No such user exists.\n", "luna cluster change --user nosuch")
	}},
	{"19 the words for a kernel that is not there", fixture, func(d *desk) {
		d.ok("cp -r $IMG $D/tree")
		d.fails(255, "Available kernels are '[", "luna osimage add -n two -p $D/tree -k 9.9.9")
	}},
	{"1.4 osimage show has 1.2's rows, packed too", 1, func(d *desk) {
		d.pack()
		d.fields("luna osimage show compute", "name dracutmodules grab_exclude_list grab_filesystems initrdfile kernfile kernmodules kernopts kernver path tarball torrent comment")
	}},
	{"1.4 network show has 1.2's rows, with a range too", 1, func(d *desk) {
		d.ok("luna cluster makedhcp -N cluster -s 10.30.128.1 -e 10.30.129.254")
		d.fields("luna network show cluster", "name NETWORK PREFIX include ns_hostname ns_ip rev_include version comment")
	}},
	{"names: one that is empty is refused, and not one that is left out", fixture, func(d *desk) {
		d.fails(255, "name", `luna node add -g compute --name=""`)
		d.prints("[]\n", "luna node list -o json")
	}},
	{"names: a tag of two lines is refused, and not cut", 1, func(d *desk) {
		d.fails(255, "tag", "luna node change node001 --tag=\"$(printf 'a\\nb')\"")
		d.lacks("luna node show node001", "tags")
	}},
}
