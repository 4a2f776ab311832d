package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// The volume provisioner: makes a folder on the node that the scheduler chose for a claim, and a `local` volume with
// affinity to that node; removes both when the claim is gone and the policy says Delete. It runs beside the API server
// and sees every node's folder below one of its own, so no pod has to be started to make or remove one. It only ever
// looks at claims and volumes that name it as their provisioner.

const (
	provisionerName = "meridian.test/local"

	// Set on a claim by the scheduler and by the volume controller ("Dynamic provisioning", external provisioners).
	annotationSelectedNode  = "volume.kubernetes.io/selected-node"
	annotationProvisioner   = "volume.kubernetes.io/storage-provisioner"
	annotationProvisionedBy = "pv.kubernetes.io/provisioned-by"

	workers = 4
)

type provisioner struct {
	client     kubernetes.Interface
	claims     corelisters.PersistentVolumeClaimLister
	volumes    corelisters.PersistentVolumeLister
	nodes      corelisters.NodeLister
	classes    storagelisters.StorageClassLister
	folder     string
	nodeFolder string
}

func newVolumesCommand() *cobra.Command {
	var kubeconfig, folder, nodeFolder string
	command := &cobra.Command{
		Use:   "volumes",
		Short: "Provisions local volumes for the test cluster",
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(command.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return runProvisioner(ctx, kubeconfig, folder, nodeFolder)
		},
	}
	command.SetContext(context.Background())
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "who this is to the API server")
	command.Flags().StringVar(&folder, "folder", "", "holds one folder per node, by the node's name")
	command.Flags().StringVar(&nodeFolder, "node-folder", "", "the node's folder as the node itself sees it")
	return command
}

func runProvisioner(ctx context.Context, kubeconfig, folder, nodeFolder string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 5*time.Minute)
	core := factory.Core().V1()
	p := &provisioner{
		client:     client,
		claims:     core.PersistentVolumeClaims().Lister(),
		volumes:    core.PersistentVolumes().Lister(),
		nodes:      core.Nodes().Lister(),
		classes:    factory.Storage().V1().StorageClasses().Lister(),
		folder:     folder,
		nodeFolder: nodeFolder,
	}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	enqueue := func(prefix string) cache.ResourceEventHandlerFuncs {
		add := func(object any) {
			if key, err := cache.MetaNamespaceKeyFunc(object); err == nil {
				queue.Add(prefix + key)
			}
		}
		return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, object any) { add(object) }}
	}
	if _, err := core.PersistentVolumeClaims().Informer().AddEventHandler(enqueue("claim:")); err != nil {
		return err
	}
	if _, err := core.PersistentVolumes().Informer().AddEventHandler(enqueue("volume:")); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	for informer, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("%v did not sync", informer)
		}
	}
	for range workers {
		go func() {
			for p.next(ctx, queue) {
			}
		}()
	}
	<-ctx.Done()
	queue.ShutDown()
	return nil
}

func (p *provisioner) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) bool {
	key, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(key)
	kind, name, _ := strings.Cut(key, ":")
	act := p.provision
	if kind == "volume" {
		act = p.reclaim
	}
	if err := act(ctx, name); err != nil {
		klog.ErrorS(err, "Will try again", "object", key)
		queue.AddRateLimited(key)
		return true
	}
	queue.Forget(key)
	return true
}

func (p *provisioner) provision(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return err
	}
	claim, err := p.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	nodeName := claim.Annotations[annotationSelectedNode]
	if claim.Annotations[annotationProvisioner] != provisionerName || nodeName == "" || claim.Spec.VolumeName != "" ||
		claim.DeletionTimestamp != nil || claim.Spec.StorageClassName == nil {
		return nil
	}
	volumeName := "pvc-" + string(claim.UID)
	if _, err := p.volumes.Get(volumeName); err == nil {
		return nil
	}
	if claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return fmt.Errorf("claim %s wants a block device: only file systems are made here", key)
	}
	class, err := p.classes.Get(*claim.Spec.StorageClassName)
	if err != nil {
		return err
	}
	node, err := p.nodes.Get(nodeName)
	if err != nil {
		return err
	}
	path, err := p.pathOf(nodeName, volumeName)
	if err != nil {
		return err
	}
	// Root's own, as most volumes start out: the kubelet gives it to the pod's fsGroup when it mounts it.
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, p.volumeFor(claim, class, node, volumeName), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	klog.InfoS("Provisioned", "claim", key, "volume", volumeName, "node", nodeName)
	return nil
}

func (p *provisioner) volumeFor(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node, name string) *corev1.PersistentVolume {
	reclaim := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		reclaim = *class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{annotationProvisionedBy: provisionerName},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: reclaim,
			StorageClassName:              class.Name,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: filepath.Join(p.nodeFolder, name)},
			},
			// Bound to this very claim from the start: nobody else can take it.
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{
						Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn,
						Values: []string{node.Labels[corev1.LabelHostname]},
					}},
				}},
			}},
		},
	}
}

func (p *provisioner) reclaim(ctx context.Context, name string) error {
	volume, err := p.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if volume.Annotations[annotationProvisionedBy] != provisionerName ||
		volume.Status.Phase != corev1.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return nil
	}
	nodeName, err := nodeOf(volume)
	if err != nil {
		return err
	}
	path, err := p.pathOf(nodeName, name)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	err = p.client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &volume.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	klog.InfoS("Removed", "volume", name, "node", nodeName)
	return nil
}

func nodeOf(volume *corev1.PersistentVolume) (string, error) {
	if volume.Spec.NodeAffinity != nil && volume.Spec.NodeAffinity.Required != nil {
		for _, term := range volume.Spec.NodeAffinity.Required.NodeSelectorTerms {
			for _, expression := range term.MatchExpressions {
				if expression.Key == corev1.LabelHostname && len(expression.Values) == 1 {
					return expression.Values[0], nil
				}
			}
		}
	}
	return "", fmt.Errorf("volume %s names no node", volume.Name)
}

// pathOf refuses names that would lead out of the node's folder: what it returns is removed whole.
func (p *provisioner) pathOf(nodeName, volumeName string) (string, error) {
	for _, part := range []string{nodeName, volumeName} {
		if part == "" || part == "." || part == ".." || strings.ContainsRune(part, filepath.Separator) {
			return "", errors.New("not a folder's name: " + part)
		}
	}
	return filepath.Join(p.folder, nodeName, volumeName), nil
}
