# Sys::Virt's streams. Arguments: a URI and a folder that holds `full` and `sparse`; what is downloaded again is put
# beside them. Prints one fact a line, `name=value`; dies at the first surprise.
use strict;
use warnings;
use Sys::Virt;
use Sys::Virt::Stream;
use Sys::Virt::StorageVol;

my ($uri, $folder) = @ARGV;
my $conn = Sys::Virt->new(uri => $uri);
my $pool = $conn->get_storage_pool_by_name("pool");
my $vol = $pool->get_volume_by_name("vol");

sub opened { my ($mode, $name) = @_; open(my $file, "$mode:raw", "$folder/$name") or die "$name: $!"; return $file; }

my $in = opened("<", "full");
my $stream = $conn->new_stream();
$vol->upload($stream, 0, 0);
$stream->send_all(sub { my $n = sysread($in, $_[1], $_[2]); return defined $n ? $n : -1; });
$stream->finish();

my $out = opened(">", "full.perl");
$stream = $conn->new_stream();
$vol->download($stream, 0, 0);
$stream->recv_all(sub { my $n = syswrite($out, $_[1], $_[2]); return defined $n ? $n : -1; });
$stream->finish();
close($out);

# piece by piece
$stream = $conn->new_stream();
$vol->download($stream, 0, 0);
my $got = 0;
while ((my $n = $stream->recv(my $data, 65536)) > 0) { $got += $n; }
$stream->finish();
print "piecewise=$got\n";

# with holes, down
my $holes = 0;
$out = opened(">", "sparse.perl");
$stream = $conn->new_stream();
$vol->download($stream, 0, 0, Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM);
$stream->sparse_recv_all(
    sub { my $n = syswrite($out, $_[1], $_[2]); return defined $n ? $n : -1; },
    sub { $holes += $_[1]; return 0; });
$stream->finish();
print "holes=$holes\n";

$stream = $conn->new_stream();
$vol->upload($stream, 0, 0);
$stream->send("x" x 1000, 1000);
$stream->abort();
print "alive=", $conn->is_alive() ? 1 : 0, "\n";

my $broken = $pool->get_volume_by_name("broken");
$stream = $conn->new_stream();
$broken->download($stream, 0, 0);
eval { while ($stream->recv(my $data, 65536) > 0) { } $stream->finish(); };
print "error=", $@->message, "\n";
