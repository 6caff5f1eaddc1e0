// Package natsapi offers a registry over NATS: its commands and queries as NATS micro endpoints, the
// election of the active registry in a KV bucket, and the client that the command line uses.
//
// It promises that only the active registry answers, and that a client's command takes effect once
// however often it has to be sent. What a command means it leaves to package registry; who may send it, to
// the permissions of the NATS server: the subject names project and actor.
package natsapi
