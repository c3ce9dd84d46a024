// SPDX-License-Identifier: GPL-2.0
/*
 * Answers TCP and UDP at a port as a rootkit can: packets are taken before the kernel looks for a
 * socket, and each answer is made of its packet. It accepts every connection, sends back what it
 * receives, and closes when its peer does. insmod answer.ko port=N
 */
#include <linux/etherdevice.h>
#include <linux/ip.h>
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ip.h>
#include <net/tcp.h>

#define FIRST_SEQUENCE 1000

static ushort port;
module_param(port, ushort, 0);

/* Sends a copy of a packet to where it came from. */
static void send_back(struct sk_buff *reply)
{
	u8 hardware[ETH_ALEN];
	struct ethhdr *ethernet = eth_hdr(reply);

	reply->ip_summed = CHECKSUM_NONE;
	ether_addr_copy(hardware, ethernet->h_dest);
	ether_addr_copy(ethernet->h_dest, ethernet->h_source);
	ether_addr_copy(ethernet->h_source, hardware);
	skb_push(reply, ETH_HLEN);
	dev_queue_xmit(reply);
}

static void answer(const struct sk_buff *skb)
{
	struct sk_buff *reply = skb_copy(skb, GFP_ATOMIC);

	if (!reply)
		return;
	if (skb_linearize(reply) != 0) {
		kfree_skb(reply);
		return;
	}
	struct iphdr *ip = ip_hdr(reply);
	unsigned int header = ip->ihl * 4;
	struct tcphdr *tcp = (struct tcphdr *)((u8 *)ip + header);
	unsigned int length = ntohs(ip->tot_len);
	unsigned int data = length - header - tcp->doff * 4;
	u32 sequence = tcp->syn ? FIRST_SEQUENCE : ntohl(tcp->ack_seq);
	u32 next = ntohl(tcp->seq) + data + tcp->syn + tcp->fin;

	if (tcp->rst || (data == 0 && !tcp->syn && !tcp->fin)) {
		kfree_skb(reply);
		return;
	}
	/* Without options: the data move up to the shorter header. */
	memmove((u8 *)tcp + sizeof(*tcp), (u8 *)tcp + tcp->doff * 4, data);
	swap(tcp->source, tcp->dest);
	tcp->seq = htonl(sequence);
	tcp->ack_seq = htonl(next);
	tcp->doff = sizeof(*tcp) / 4;
	tcp->ack = 1;
	tcp->psh = data > 0;
	tcp->window = htons(8192);
	swap(ip->saddr, ip->daddr);
	ip->ttl = 64;
	ip->id = 0;
	ip->tot_len = htons(header + sizeof(*tcp) + data);
	ip_send_check(ip);
	skb_trim(reply, header + sizeof(*tcp) + data);
	tcp->check = 0;
	tcp->check = tcp_v4_check(sizeof(*tcp) + data, ip->saddr, ip->daddr,
				  csum_partial(tcp, sizeof(*tcp) + data, 0));
	send_back(reply);
}

static void answer_datagram(const struct sk_buff *skb)
{
	struct sk_buff *reply = skb_copy(skb, GFP_ATOMIC);

	if (!reply)
		return;
	if (skb_linearize(reply) != 0) {
		kfree_skb(reply);
		return;
	}
	struct iphdr *ip = ip_hdr(reply);
	struct udphdr *udp = (struct udphdr *)((u8 *)ip + ip->ihl * 4);
	unsigned int length = ntohs(udp->len);

	swap(udp->source, udp->dest);
	swap(ip->saddr, ip->daddr);
	ip->ttl = 64;
	ip_send_check(ip);
	udp->check = 0;
	udp->check = csum_tcpudp_magic(ip->saddr, ip->daddr, length, IPPROTO_UDP,
				       csum_partial(udp, length, 0));
	if (udp->check == 0)
		udp->check = CSUM_MANGLED_0;
	send_back(reply);
}

static unsigned int hook(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	struct iphdr *ip = ip_hdr(skb);
	unsigned int ports = ip->ihl * 4 + sizeof(struct udphdr);

	if (ip->protocol == IPPROTO_UDP && pskb_may_pull(skb, ports)) {
		struct udphdr *udp = (struct udphdr *)((u8 *)ip_hdr(skb) + ip_hdr(skb)->ihl * 4);

		if (ntohs(udp->dest) != port)
			return NF_ACCEPT;
		answer_datagram(skb);
		return NF_DROP;
	}
	ip = ip_hdr(skb);
	if (ip->protocol != IPPROTO_TCP || !pskb_may_pull(skb, ip->ihl * 4 + sizeof(struct tcphdr)))
		return NF_ACCEPT;
	ip = ip_hdr(skb);
	struct tcphdr *tcp = (struct tcphdr *)((u8 *)ip + ip->ihl * 4);

	if (ntohs(tcp->dest) != port)
		return NF_ACCEPT;
	answer(skb);
	return NF_DROP;
}

static const struct nf_hook_ops ops = {
	.hook = hook,
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_PRE_ROUTING,
	.priority = NF_IP_PRI_FIRST,
};

static int __init answer_init(void)
{
	return nf_register_net_hook(&init_net, &ops);
}

static void __exit answer_exit(void)
{
	nf_unregister_net_hook(&init_net, &ops);
}

module_init(answer_init);
module_exit(answer_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Answers TCP and UDP without a socket, for tests of what finds it");
