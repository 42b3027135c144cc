// Package ansible holds the Ansible collection to what it promises: its modules, inventory and
// connection against a live mesh, run by ansible-playbook as an administrator does.
package ansible
