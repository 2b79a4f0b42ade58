# Sys::Virt's own API against a daemon. Arguments: a URI and a document of a guest that does not exist.
# Prints one fact a line, `name=value`; dies at the first surprise.
use strict;
use warnings;
use Sys::Virt;
use Sys::Virt::Domain;
use Sys::Virt::Event;

Sys::Virt::Event::register_default();
my ($uri, $document) = @ARGV;
my $conn = Sys::Virt->new(uri => $uri);
open(my $file, '<', $document) or die "$document: $!";
my $xml = do { local $/; <$file> };

print "type=", $conn->get_type(), "\n";
print "cpus=", $conn->get_node_info()->{cpus}, "\n";

my @told;
my $callback = $conn->domain_event_register_any(
    undef, Sys::Virt::Domain::EVENT_ID_LIFECYCLE,
    sub { my ($c, $dom, $event, $detail) = @_; push @told, $dom->get_name() . ":$event"; });

my $dom = $conn->define_domain($xml);
my $name = $dom->get_name();
$dom->create();
print "active=", $dom->is_active() ? 1 : 0, "\n";
$dom->suspend();
print "paused=", ($dom->get_info()->{state} == Sys::Virt::Domain::STATE_PAUSED ? 1 : 0), "\n";
$dom->resume();
my @listed = grep { $_->get_name() eq $name } $conn->list_all_domains();
print "listed=", scalar(@listed), "\n";
my @stats = grep { $_->{dom}->get_name() eq $name } $conn->get_all_domain_stats(Sys::Virt::Domain::STATS_STATE);
print "stats=", scalar(@stats), "\n";
$dom->destroy();
$dom->undefine();

my $patience = time + 10;
my $timer = Sys::Virt::Event::add_timeout(20, sub { });
while (!(grep { $_ eq "$name:1" } @told) && time < $patience) { Sys::Virt::Event::run_default(); }
print "events=", join(',', map { s/.*://r } grep { /^\Q$name\E:/ } @told), "\n";
$conn->domain_event_deregister_any($callback);

eval { $conn->get_domain_by_name($name) };
print "error=", $@->code, "\n";
